// Sentences of tagged words (data/task_files/conll_file.h), and the entities in them: written in
// each scheme and read again they are the same. The first byte holds options.
#include "data/task_files/conll_file.h"

#include "data/text/unicode.h"
#include "tests/fuzz/fuzz_target.h"
#include "train/tasks/entity_metrics.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  if (size == 0) return 0;
  const bool with_tags = (data[0] & 1) != 0;
  const bert::ConllOptions options{(data[0] & 2) != 0 ? 1 : 2, (data[0] & 4) != 0 ? -1 : 3};
  const auto bad_rows = (data[0] & 8) != 0 ? bert::BadRows::refuse : bert::BadRows::skip;
  std::vector<bert::TaggedSentence> sentences;
  accepts([&] {
    bert::InputReport report(bad_rows);
    sentences = bert::parse_conll(as_text(data + 1, size - 1), "input", options, with_tags, report);
  });
  for (const bert::TaggedSentence& sentence : sentences) {
    require(!sentence.words.empty(), "a sentence has words");
    require(sentence.tags.size() == (with_tags ? sentence.words.size() : 0), "each with its tag");
    for (const std::string& word : sentence.words) {
      require(!word.empty() && bert::is_valid_utf8(word), "a word is text");
    }
    bool entities = with_tags;
    for (const std::string& tag : sentence.tags) entities = entities && bert::is_entity_tag(tag);
    if (!entities) continue;
    const std::vector<bert::Entity> found = bert::find_entities(sentence.tags);
    for (const auto scheme :
         {bert::TagScheme::iob1, bert::TagScheme::iob2, bert::TagScheme::iobes}) {
      const auto tags = bert::tag_entities(found, sentence.words.size(), scheme);
      require(bert::find_entities(tags) == found, "every scheme says the same");
    }
  }
  return 0;
}
