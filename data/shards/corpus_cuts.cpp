#include "data/shards/corpus_cuts.h"

#include <algorithm>
#include <limits>

#include "data/shards/random_streams.h"
#include "runtime/error.h"
#include "runtime/philox.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

// The last place in (begin, limit] where a word starts; `begin` if there is none.
std::uint64_t word_boundary(const TokenShard& shard, std::uint64_t begin, std::uint64_t limit) {
  std::uint64_t place = limit;
  while (place > begin && !shard.starts_word(place)) --place;
  return place;
}

// The most tokens of a sample of this document.
std::uint64_t longest_sample(const CutRule& rule, std::uint64_t document) {
  const auto content = static_cast<std::uint32_t>(rule.content);
  if (rule.short_probability <= 0 || content < 2) return content;
  PhiloxStream random(0, kShortDocumentStream, document);
  if (random.next_double() >= rule.short_probability) return content;
  return 2 + random.next_below(content - 1);
}

// Where a sample of sentences ends that begins at token `begin` of `sentence`, if its document goes
// on after `limit`, the furthest it may reach.
std::uint64_t sentences_end(const TokenShard& shard, std::uint64_t sentence, std::uint64_t begin,
                            std::uint64_t limit) {
  std::uint64_t next = sentence;  // the first sentence that does not fit
  while (shard.sentence_begin(next + 1) <= limit) ++next;
  const std::uint64_t next_begin = shard.sentence_begin(next);
  if (next == sentence) {  // nothing of it is a whole sentence
    const std::uint64_t end = word_boundary(shard, begin, limit);
    return end > begin ? end : limit;
  }
  const bool fits_another = shard.sentence_begin(next + 1) - next_begin <= limit - begin;
  return fits_another ? next_begin : word_boundary(shard, next_begin, limit);
}

}  // namespace

std::string_view sampling_name(Sampling sampling) {
  return sampling == Sampling::sentences ? "sentences" : "chunks";
}

Sampling parse_sampling(std::string_view name) {
  if (name == "sentences") return Sampling::sentences;
  if (name == "chunks") return Sampling::chunks;
  throw_input_error("unknown sampling '{}': expected sentences or chunks", name);
}

void check_short_probability(double probability) {
  if (!(probability >= 0 && probability <= 1)) {
    throw_input_error("the probability of short sequences is {}, expected 0 to 1", probability);
  }
}

std::int64_t content_tokens(std::int64_t sequence_length, bool pair) {
  if (sequence_length < 8 || sequence_length > 1 << 20) {
    throw_input_error("the sequence length is {}, expected 8 to {}", sequence_length, 1 << 20);
  }
  return sequence_length - special_tokens(pair);
}

void find_cuts(const TokenShard& shard, const CutRule& rule,
               const std::function<void(const Cut&)>& emit) {
  BERT_CHECK(rule.content > 0);
  if (shard.num_sentences() > std::numeric_limits<std::uint32_t>::max()) {
    throw_input_error(
        "a split of a corpus can hold at most 2^32 - 1 sentences, this one has {}; "
        "split the input into several corpora",
        shard.num_sentences());
  }
  std::uint64_t begin = 0;  // of what is not yet cut
  for (std::uint64_t document = 0; document < shard.num_documents(); ++document) {
    const std::uint64_t budget = longest_sample(rule, document);
    const std::uint64_t last_sentence = shard.document_begin(document + 1);
    std::uint64_t sentence = shard.document_begin(document);
    const std::uint64_t document_end = shard.sentence_begin(last_sentence);
    // Documents follow one another, or there would be no end of samples.
    if (shard.sentence_begin(sentence) != begin || document_end < begin ||
        document_end > shard.num_tokens()) {
      shard.throw_out_of_order("documents");
    }
    while (begin < document_end) {
      emit({begin, static_cast<std::uint32_t>(sentence), static_cast<std::uint32_t>(document)});
      std::uint64_t end = std::min(begin + budget, document_end);
      if (rule.sampling == Sampling::sentences && end < document_end) {
        end = sentences_end(shard, sentence, begin, end);
      }
      if (end <= begin) shard.throw_out_of_order("sentences");
      begin = end;
      while (sentence < last_sentence && shard.sentence_begin(sentence + 1) <= begin) ++sentence;
    }
  }
  emit({shard.num_tokens(), static_cast<std::uint32_t>(shard.num_sentences()),
        static_cast<std::uint32_t>(shard.num_documents())});
}

std::string cuts_file_name(const CutRule& rule) {
  const std::string is_short =
      rule.short_probability > 0 ? fmt::format("_short_{}", rule.short_probability) : "";
  return fmt::format("cuts_{}_{}{}.bin", sampling_name(rule.sampling), rule.content, is_short);
}

std::uint64_t write_cuts(const fs::path& folder, const TokenShard& shard, const CutRule& rule) {
  CorpusFileWriter writer(folder / cuts_file_name(rule), kCutsKind, sizeof(Cut));
  // The shard may be larger than memory is to look.
  constexpr std::uint64_t kTokensBetweenReleases = std::uint64_t{1} << 28;
  std::uint64_t released = 0;
  find_cuts(shard, rule, [&](const Cut& cut) {
    writer.append_value(cut);
    if (cut.token - released >= kTokensBetweenReleases) {
      shard.release();
      released = cut.token;
    }
  });
  return writer.commit();
}

CutTable::CutTable(const fs::path& folder, const TokenShard& shard, const CutRule& rule) {
  const fs::path path = folder / cuts_file_name(rule);
  if (fs::exists(path)) {
    mapped_ = true;
    file_ = {path, kCutsKind};
    if (file_.size() == 0 || file_[file_.size() - 1].token != shard.num_tokens()) {
      throw_input_error(
          "{}: does not fit the tokens beside it; rebuild the corpus with "
          "prepare_corpus",
          path.string());
    }
  } else {
    find_cuts(shard, rule, [&](const Cut& cut) { cuts_.push_back(cut); });
  }
}

std::pair<std::uint64_t, std::uint64_t> CutTable::samples_of_document(std::uint64_t i) const {
  const std::uint32_t document = (*this)[i].document;
  // The first sample in [low, high) whose document is at least `wanted`.
  const auto first_of = [&](std::uint32_t wanted, std::uint64_t low, std::uint64_t high) {
    while (low < high) {
      const std::uint64_t middle = low + (high - low) / 2;
      if ((*this)[middle].document < wanted) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  };
  return {first_of(document, 0, i), first_of(document + 1, i, num_samples())};
}

}  // namespace bert
