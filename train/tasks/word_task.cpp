#include "train/tasks/word_task.h"

#include <algorithm>
#include <set>
#include <span>
#include <utility>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/task_files/conll_file.h"
#include "data/text/read_input.h"
#include "runtime/error.h"
#include "train/tasks/classification_metrics.h"
#include "train/tasks/entity_metrics.h"
#include "train/tasks/task_labels.h"
#include "train/tasks/task_predictions.h"
#include "train/tasks/task_sequences.h"

namespace bert {
namespace {

using nlohmann::ordered_json;

bool are_entity_tags(std::span<const std::string> tags) {
  return std::all_of(tags.begin(), tags.end(),
                     [](const std::string& tag) { return is_entity_tag(tag); });
}

// The sentences of a file, their tags in the scheme that was asked for.
std::vector<TaggedSentence> read_sentences(std::string_view content, const std::string& file,
                                           const TaskOptions& options, bool with_tags,
                                           InputReport& report) {
  std::vector<TaggedSentence> sentences =
      parse_conll(content, file, {options.token_column, options.tag_column}, with_tags, report);
  if (!with_tags || options.scheme == TagScheme::automatic) return sentences;
  std::vector<TaggedSentence> translated;
  for (TaggedSentence& sentence : sentences) {
    const auto other = std::find_if_not(sentence.tags.begin(), sentence.tags.end(), is_entity_tag);
    if (other != sentence.tags.end()) {
      report.bad(
          "not an entity's tag",
          fmt::format("{}:{}", file, sentence.line + (other - sentence.tags.begin())),
          fmt::format("'{}' cannot be translated: expected O, or B-, I-, E- or S- and a type",
                      *other));
      continue;
    }
    sentence.tags =
        tag_entities(find_entities(sentence.tags), sentence.words.size(), options.scheme);
    translated.push_back(std::move(sentence));
  }
  return translated;
}

// Where B- begins entities that need none in IOB1, one that I- begins is a slip or a mixture.
void report_mixed_schemes(const std::vector<TaggedSentence>& sentences, const std::string& file,
                          InputReport& report) {
  const auto begin = [](const TaggedSentence& sentence, char prefix, auto&& found) {
    const std::vector<Entity> entities = find_entities(sentence.tags);
    for (std::size_t i = 0; i < entities.size(); ++i) {
      const bool touches = i > 0 && entities[i - 1].end == entities[i].begin;
      if (sentence.tags[entities[i].begin].front() == prefix && !touches) found(entities[i].begin);
    }
  };
  bool explicit_beginnings = false;
  for (const TaggedSentence& sentence : sentences) {
    begin(sentence, 'B', [&](std::size_t) { explicit_beginnings = true; });
  }
  if (!explicit_beginnings) return;
  for (const TaggedSentence& sentence : sentences) {
    begin(sentence, 'I', [&](std::size_t word) {
      report.unusual("entity without a beginning", fmt::format("{}:{}", file, sentence.line + word),
                     fmt::format("{} begins an entity", sentence.tags[word]));
    });
  }
}

class WordDataset final : public TaskDataset {
 public:
  WordDataset(const TaskOptions& options, std::string_view content, const std::string& file,
              const Tokenizer& tokenizer, Purpose purpose, std::int64_t most_examples)
      : TaskDataset(options.bad_rows, most_examples),
        labels_(options.labels),
        entities_(are_entity_tags(labels_)),
        room_(static_cast<std::size_t>(options.max_length) - 2) {
    const bool with_tags = purpose != Purpose::prediction;
    std::vector<TaggedSentence> sentences =
        read_sentences(content, file, options, with_tags, report_);
    if (with_tags && entities_) report_mixed_schemes(sentences, file, report_);
    const LabelIndex index(labels_);
    for (TaggedSentence& sentence : sentences) {
      if (has_all()) break;
      std::vector<std::int32_t> tags(sentence.words.size(), kIgnoreIndex);
      if (with_tags && !find_tags(sentence, file, index, tags)) continue;
      add(sentence, tags, file, tokenizer);
      sentences_.push_back(std::move(sentence));
    }
  }

  std::vector<Metric> metrics(const TaskOutputs& outputs) const override {
    const std::vector<std::vector<std::int32_t>> predicted = predictions(outputs);
    std::vector<std::int32_t> gold_words, predicted_words;
    EntityScores scores;
    for (std::size_t i = 0, sequence = 0; i < sentences_.size(); ++i) {
      std::vector<std::int32_t> gold;
      for (; sequence < sequences_.size() && of_example(sequence, i); ++sequence) {
        const std::vector<std::int32_t>& labels = sequences_[sequence].row_labels;
        gold.insert(gold.end(), labels.begin(), labels.end());
      }
      gold_words.insert(gold_words.end(), gold.begin(), gold.end());
      predicted_words.insert(predicted_words.end(), predicted[i].begin(), predicted[i].end());
      if (entities_) scores.add(names(gold), names(predicted[i]));
    }
    const Confusion words(gold_words, predicted_words, static_cast<std::int64_t>(labels_.size()));
    if (!entities_) return {{"accuracy", words.accuracy()}, {"macro_f1", words.macro_f1()}};
    std::vector<Metric> metrics{{"f1", scores.all().f1()},
                                {"precision", scores.all().precision()},
                                {"recall", scores.all().recall()},
                                {"accuracy", words.accuracy()}};
    for (const auto& [type, counts] : scores.types()) {
      metrics.push_back({"f1_" + type, counts.f1()});
      metrics.push_back({"precision_" + type, counts.precision()});
      metrics.push_back({"recall_" + type, counts.recall()});
    }
    return metrics;
  }

  void write_predictions(const TaskOutputs& outputs, std::ostream& out) const override {
    const std::vector<std::vector<std::int32_t>> predicted = predictions(outputs);
    for (std::size_t i = 0, sequence = 0; i < sentences_.size(); ++i) {
      const TaggedSentence& sentence = sentences_[i];
      const std::vector<std::string> tags = names(predicted[i]);
      ordered_json probabilities = ordered_json::array();
      for (; sequence < sequences_.size() && of_example(sequence, i); ++sequence) {
        for (std::size_t row = 0; row < sequences_[sequence].rows.size(); ++row) {
          const std::vector<double> all = softmax(row_of(outputs[sequence], row));
          probabilities.push_back(rounded(*std::max_element(all.begin(), all.end())));
        }
      }
      ordered_json record{{"line", sentence.line},
                          {"words", sentence.words},
                          {"tags", tags},
                          {"probabilities", probabilities}};
      if (entities_) record["entities"] = entities_json(sentence, tags);
      write_line(record, out);
    }
  }

 private:
  std::int64_t outputs_of(const TaskSequence& sequence) const override {
    return static_cast<std::int64_t>(sequence.rows.size() * labels_.size());
  }

  bool of_example(std::size_t sequence, std::size_t example) const {
    return sequences_[sequence].example == static_cast<std::int64_t>(example);
  }

  std::span<const float> row_of(const std::vector<float>& outputs, std::size_t row) const {
    return std::span(outputs).subspan(row * labels_.size(), labels_.size());
  }

  // The sentence's tags as indices; false, and reported, if one of them is unknown.
  bool find_tags(const TaggedSentence& sentence, const std::string& file, const LabelIndex& index,
                 std::vector<std::int32_t>& tags) {
    for (std::size_t i = 0; i < tags.size(); ++i) {
      const auto tag = index.find(sentence.tags[i]);
      if (!tag) {
        report_.bad("unknown label", fmt::format("{}:{}", file, sentence.line + i),
                    index.unknown(sentence.tags[i]));
        return false;
      }
      tags[i] = *tag;
    }
    return true;
  }

  // The pieces of a word, at least one and no more than a sequence takes.
  std::vector<Token> pieces_of(const std::string& word, const std::string& place,
                               const Tokenizer& tokenizer) {
    std::vector<Token> pieces;
    tokenizer.encode(word, pieces);
    report_long_words(tokenizer, word, pieces, place, report_);
    if (pieces.empty()) {
      report_.unusual("word without pieces", place,
                      fmt::format("'{}' is read as an unknown word", word));
      pieces.push_back({tokenizer.special().unk, 0, static_cast<std::uint32_t>(word.size()), true});
    }
    if (pieces.size() > room_) {
      report_.truncated("long word", place,
                        fmt::format("{} of {} pieces are kept", room_, pieces.size()));
      pieces.resize(room_);
    }
    return pieces;
  }

  // One sequence, or several that part the words between them.
  void add(const TaggedSentence& sentence, const std::vector<std::int32_t>& tags,
           const std::string& file, const Tokenizer& tokenizer) {
    std::vector<Token> tokens;
    std::vector<std::int32_t> rows, row_labels;
    std::size_t parts = 0;
    const auto close = [&] {
      TaskSequence sequence = assemble_sequence(tokenizer.special(), tokens, {}, false);
      sequence.example = num_examples_;
      sequence.rows = std::exchange(rows, {});
      sequence.row_labels = std::exchange(row_labels, {});
      sequences_.push_back(std::move(sequence));
      tokens.clear();
      ++parts;
    };
    for (std::size_t i = 0; i < sentence.words.size(); ++i) {
      const std::vector<Token> pieces =
          pieces_of(sentence.words[i], fmt::format("{}:{}", file, sentence.line + i), tokenizer);
      if (tokens.size() + pieces.size() > room_) close();
      rows.push_back(static_cast<std::int32_t>(tokens.size()) + 1);  // after [CLS]
      row_labels.push_back(tags[i]);
      tokens.insert(tokens.end(), pieces.begin(), pieces.end());
    }
    close();
    ++num_examples_;
    if (parts > 1) {
      report_.unusual(
          "long sentence", fmt::format("{}:{}", file, sentence.line),
          fmt::format("its {} words are read in {} parts", sentence.words.size(), parts));
    }
  }

  // Of each sentence the index of each word's tag.
  std::vector<std::vector<std::int32_t>> predictions(const TaskOutputs& outputs) const {
    check_outputs(outputs);
    std::vector<std::vector<std::int32_t>> predicted(sentences_.size());
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      auto& words = predicted[static_cast<std::size_t>(sequences_[i].example)];
      for (std::size_t row = 0; row < sequences_[i].rows.size(); ++row) {
        words.push_back(static_cast<std::int32_t>(largest(row_of(outputs[i], row))));
      }
    }
    return predicted;
  }

  std::vector<std::string> names(const std::vector<std::int32_t>& tags) const {
    std::vector<std::string> result;
    for (const std::int32_t tag : tags) result.push_back(labels_[static_cast<std::size_t>(tag)]);
    return result;
  }

  static ordered_json entities_json(const TaggedSentence& sentence,
                                    const std::vector<std::string>& tags) {
    ordered_json list = ordered_json::array();
    for (const Entity& entity : find_entities(tags)) {
      const auto words = std::span(sentence.words).subspan(entity.begin, entity.end - entity.begin);
      list.push_back({{"type", entity.type},
                      {"start", entity.begin},
                      {"end", entity.end},
                      {"text", fmt::format("{}", fmt::join(words, " "))}});
    }
    return list;
  }

  std::vector<std::string> labels_;
  bool entities_;
  std::size_t room_;  // tokens in a sequence besides [CLS] and [SEP]
  std::vector<TaggedSentence> sentences_;
};

class WordTask final : public Task {
 public:
  explicit WordTask(TaskOptions options) : Task(std::move(options)) {}

  std::vector<std::string> metric_names() const override {
    if (are_entity_tags(labels())) return {"f1", "precision", "recall", "accuracy"};
    return {"accuracy", "macro_f1"};
  }
  std::string default_metric() const override { return metric_names().front(); }

 private:
  std::unique_ptr<TaskDataset> parse_file(std::string_view content, const std::string& file,
                                          const Tokenizer& tokenizer, Purpose purpose,
                                          std::int64_t most_examples) const override {
    return std::make_unique<WordDataset>(options_, content, file, tokenizer, purpose,
                                         most_examples);
  }
};

}  // namespace

std::unique_ptr<Task> make_word_task(TaskOptions options) {
  return std::make_unique<WordTask>(std::move(options));
}

std::vector<std::string> find_word_labels(const std::string& file, const TaskOptions& options) {
  InputReport report(options.bad_rows);
  std::set<std::string> tags;
  for (const TaggedSentence& sentence :
       read_sentences(read_input(file), file, options, true, report)) {
    tags.insert(sentence.tags.begin(), sentence.tags.end());
  }
  if (!std::all_of(tags.begin(), tags.end(), is_entity_tag)) return ordered_labels(tags, file);
  std::set<std::string> complete{"O"};
  for (const std::string& prefix : tags) {
    for (const std::string& type : tags) {
      if (prefix != "O" && type != "O") complete.insert(prefix.substr(0, 1) + type.substr(1));
    }
  }
  return ordered_labels(complete, file);
}

}  // namespace bert
