#include "train/inference/task_predictor.h"

#include <algorithm>
#include <sstream>
#include <string_view>
#include <utility>

#include "data/text/blank.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "train/inference/task_batches.h"
#include "train/inference/task_inference.h"
#include "train/step/micro_batch_limits.h"
#include "train/tasks/task_options.h"

namespace bert {
namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

constexpr const char* kTextColumn = "text";
constexpr const char* kPairColumn = "text_pair";
constexpr const char* kSource = "what is asked";  // in place of a file's name

void check_word(const std::string& word) {
  if (word.empty() || word.find_first_of(" \t\n\v\f\r") != std::string::npos) {
    throw_input_error("'{}' is no word: it is empty or has blanks", word);
  }
  if (word.starts_with("-DOCSTART-")) {
    throw_input_error("'{}' is no word: files of words mark the beginning of a document with it",
                      word);
  }
}

}  // namespace

TaskOptions read_task_options(InferenceSession& session) {
  const BertForTask& model = session.task_model();
  const std::int64_t longest = model.config().max_position_embeddings;
  const fs::path file = session.checkpoint() / "task.json";
  if (fs::exists(file)) return task_options_from_json(read_file(file), file.string());
  constexpr std::int64_t kQuestionLength = 384;
  TaskOptions options;
  options.kind = model.kind();
  options.labels = model.head_description().labels;
  options.max_length =
      options.kind == TaskKind::question_answering ? std::min(longest, kQuestionLength) : longest;
  return options;
}

TaskPredictor::TaskPredictor(InferenceSession& session, TaskOptions options)
    : session_(session), task_(make_task(std::move(options))) {
  const BertForTask& model = session.task_model();
  if (task_->kind() != model.kind() || task_->num_outputs() != model.num_outputs()) {
    throw_input_error("{}: its task is {} with {} outputs, its model's head is for {} with {}",
                      session.checkpoint().string(), task_kind_name(task_->kind()),
                      task_->num_outputs(), task_kind_name(model.kind()), model.num_outputs());
  }
  const std::int64_t longest = model.capacity().max_seqlen;
  if (task_->options().max_length > longest) {
    throw_input_error("max_length is {} tokens: the model of {} takes {}",
                      task_->options().max_length, session.checkpoint().string(), longest);
  }
}

TaskOutputs TaskPredictor::outputs(const TaskDataset& dataset, std::int64_t* tokens) {
  BertForTask& model = session_.task_model();
  check_fits(dataset.sequences(), model.config());
  TaskBatchOptions options;
  options.batch_size = 1;
  options.limits = limits_of(model.capacity());
  const TaskBatches batches(dataset.sequences(), task_->kind(), options);
  if (tokens != nullptr) {
    for (const TaskSequence& sequence : dataset.sequences()) {
      *tokens += static_cast<std::int64_t>(sequence.input_ids.size());
    }
  }
  return task_outputs(model, session_.device(), session_.memory(), batches.in_order());
}

std::vector<ordered_json> TaskPredictor::texts(const std::vector<TextQuery>& queries, bool pairs) {
  require(task_->kind() == TaskKind::classification || task_->kind() == TaskKind::regression,
          "texts");
  TaskOptions options = task_->options();
  options.table = {.format = TableFormat::json_lines,
                   .text_column = kTextColumn,
                   .text_pair_column = pairs ? kPairColumn : "",
                   .label_column = "",
                   .header = std::nullopt};
  std::string content;
  for (const TextQuery& query : queries) {
    if (is_blank(query.text) || (pairs && is_blank(query.pair))) {
      throw_input_error("text {} of {} is empty", &query - queries.data() + 1, queries.size());
    }
    ordered_json record{{kTextColumn, query.text}};
    if (pairs) record[kPairColumn] = query.pair;
    content += one_line(record) + '\n';
  }
  std::vector<ordered_json> found = records(options, content);
  BERT_CHECK(found.size() == queries.size());
  return found;
}

std::vector<ordered_json> TaskPredictor::words(
    const std::vector<std::vector<std::string>>& sentences) {
  require(task_->kind() == TaskKind::token_classification, "words");
  TaskOptions options = task_->options();
  options.token_column = 1;
  std::string content;
  for (const std::vector<std::string>& sentence : sentences) {
    if (sentence.empty()) throw_input_error("a sentence without words");
    for (const std::string& word : sentence) {
      check_word(word);
      content += word + '\n';
    }
    content += '\n';
  }
  std::vector<ordered_json> found = records(options, content);
  BERT_CHECK(found.size() == sentences.size());
  return found;
}

ordered_json TaskPredictor::answer(const std::string& question, const std::string& context) {
  require(task_->kind() == TaskKind::question_answering, "questions");
  const ordered_json paragraph{
      {"context", context},
      {"qas", {{{"id", "0"}, {"question", question}, {"answers", ordered_json::array()}}}}};
  const ordered_json file{{"data", {{{"paragraphs", {paragraph}}}}}};
  std::vector<ordered_json> found = records(task_->options(), one_line(file));
  BERT_CHECK(found.size() == 1);
  return std::move(found.front());
}

std::vector<ordered_json> TaskPredictor::records(const TaskOptions& options,
                                                 const std::string& content) {
  TaskOptions strict = options;
  strict.bad_rows = BadRows::refuse;
  const std::unique_ptr<TaskDataset> dataset =
      make_task(std::move(strict))
          ->parse(content, kSource, session_.tokenizer(), Purpose::prediction);
  std::stringstream written;
  dataset->write_predictions(outputs(*dataset), written);
  std::vector<ordered_json> found;
  for (std::string line; std::getline(written, line);) {
    auto record = parse_json<ordered_json>(line, "a prediction");
    record.erase("line");
    record.erase("id");
    found.push_back(std::move(record));
  }
  return found;
}

void TaskPredictor::require(bool fits, const char* what) const {
  if (fits) return;
  throw_input_error("{} was fine-tuned on {}, which is not of {}", session_.checkpoint().string(),
                    task_kind_name(task_->kind()), what);
}

std::vector<std::string> split_words(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<Token> tokens;
  tokenizer.encode(text, tokens);
  std::vector<std::string> words;
  std::uint32_t begin = 0, end = 0;
  const auto close = [&] {
    // A piece of SentencePiece may begin with the blank before it.
    while (begin < end && text[begin] == ' ') ++begin;
    if (begin < end) words.push_back(text.substr(begin, end - begin));
  };
  for (const Token& token : tokens) {
    if (token.starts_word || token.begin > end) {
      close();
      begin = token.begin;
    }
    end = token.end;
  }
  close();
  return words;
}

}  // namespace bert
