// predict: what a fine-tuned model answers.
#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/text/blank.h"
#include "kernels/cpu_module.h"
#include "model/model_files.h"
#include "runtime/communicator.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/program.h"
#include "tools/output_file.h"
#include "tools/text_options.h"
#include "train/inference/task_predictor.h"
#include "train/step/backend_options.h"

namespace {

using bert::TaskKind;
using bert::TaskPredictor;
using Json = nlohmann::ordered_json;

// What the command line says of the task, over what the checkpoint says.
struct TaskArguments {
  std::string format, text, text_pair, label;
  std::optional<std::int64_t> max_length, doc_stride, max_answer_length, token_column, tag_column;
  std::optional<double> null_threshold;
  void apply(bert::TaskOptions& options) const;
};

struct Arguments {
  std::string checkpoint, input, output = "-";
  std::vector<std::string> texts;
  std::string question, context;
  bool pairs = false, evaluate = false, json = false;
  TaskArguments task;
  bert::TextOptions lines;
  bert::RuntimeConfig runtime;
};

template <typename T>
void replace(T& value, const std::optional<T>& given) {
  if (given) value = *given;
}

void TaskArguments::apply(bert::TaskOptions& options) const {
  if (!format.empty()) options.table.format = bert::parse_table_format(format);
  if (!text.empty()) {
    options.table.text_column = text;
    options.table.text_pair_column = text_pair;
  } else if (!text_pair.empty()) {
    options.table.text_pair_column = text_pair;
  }
  if (!label.empty()) options.table.label_column = label;
  replace(options.max_length, max_length);
  replace(options.doc_stride, doc_stride);
  replace(options.max_answer_length, max_answer_length);
  replace(options.token_column, token_column);
  replace(options.tag_column, tag_column);
  replace(options.null_threshold, null_threshold);
  if (null_threshold) options.allow_no_answer = true;
}

// --- A file -------------------------------------------------------------------------------------
void write_predictions(const bert::TaskDataset& dataset, const bert::TaskOutputs& outputs,
                       const std::string& output) {
  if (output == "-") {
    dataset.write_predictions(outputs, std::cout);
    if (!std::cout.flush()) bert::throw_runtime_error("cannot write to standard output");
    return;
  }
  std::stringstream text;
  dataset.write_predictions(outputs, text);
  bert::write_file_atomic(output, text.view());
}

// On standard output, unless predictions are there.
void print_metrics(const std::vector<bert::Metric>& metrics, const Arguments& arguments) {
  std::ostream& out = arguments.output == "-" ? std::cerr : std::cout;
  Json json;
  for (const bert::Metric& metric : metrics) {
    json[metric.name] = metric.value;
    if (!arguments.json) out << fmt::format("{:<24}{:.4f}\n", metric.name, metric.value);
  }
  if (arguments.json) out << json.dump() << '\n';
}

int predict_file(TaskPredictor& predictor, const bert::Tokenizer& tokenizer,
                 const Arguments& arguments) {
  bert::refuse_to_replace(arguments.output, {arguments.input});
  const bert::Throughput throughput;
  const std::unique_ptr<bert::TaskDataset> dataset = predictor.task().read(
      arguments.input, tokenizer,
      arguments.evaluate ? bert::Purpose::evaluation : bert::Purpose::prediction);
  bert::report_input(dataset->report());
  std::int64_t tokens = 0;
  const bert::TaskOutputs outputs = predictor.outputs(*dataset, &tokens);
  write_predictions(*dataset, outputs, arguments.output);
  std::cerr << throughput.line(dataset->num_examples(), tokens) << '\n';
  if (arguments.evaluate) print_metrics(dataset->metrics(outputs), arguments);
  return 0;
}

// --- What is asked directly ---------------------------------------------------------------------
void print_record(const std::string& text, Json record, const Arguments& arguments) {
  if (arguments.json) {
    Json answer{{"text", text}};
    answer.update(record);
    std::cout << bert::one_line(answer) << std::endl;
    return;
  }
  std::cout << text << '\n';
  if (record.contains("words")) {
    for (std::size_t i = 0; i < record["words"].size(); ++i) {
      std::cout << fmt::format("  {:<16}{:>6.1f}%  {}\n", record["tags"][i].get<std::string>(),
                               100.0 * record["probabilities"][i].get<double>(),
                               record["words"][i].get<std::string>());
    }
  } else if (record.contains("value")) {
    std::cout << fmt::format("  {}\n", record["value"].get<double>());
  } else {
    std::vector<std::pair<double, std::string>> labels;
    for (const auto& [label, probability] : record["probabilities"].items()) {
      labels.emplace_back(-probability.get<double>(), label);
    }
    std::stable_sort(labels.begin(), labels.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [negative, label] : labels) {
      std::cout << fmt::format("  {:>6.1f}%  {}\n", -100.0 * negative, label);
    }
  }
  std::cout << std::endl;
}

void answer_texts(TaskPredictor& predictor, const bert::Tokenizer& tokenizer,
                  const std::vector<std::string>& texts, const Arguments& arguments) {
  std::vector<Json> records;
  std::vector<std::string> shown = texts;
  if (predictor.task().kind() == TaskKind::token_classification) {
    std::vector<std::vector<std::string>> sentences;
    for (const std::string& text : texts) {
      sentences.push_back(bert::split_words(tokenizer, text));
    }
    records = predictor.words(sentences);
  } else if (arguments.pairs) {
    std::vector<bert::TextQuery> queries;
    shown.clear();
    for (std::size_t i = 0; i + 1 < texts.size(); i += 2) {
      queries.push_back({texts[i], texts[i + 1]});
      shown.push_back(texts[i] + " | " + texts[i + 1]);
    }
    records = predictor.texts(queries, true);
  } else {
    std::vector<bert::TextQuery> queries;
    for (const std::string& text : texts) queries.push_back({text, ""});
    records = predictor.texts(queries, false);
  }
  for (std::size_t i = 0; i < records.size(); ++i) print_record(shown[i], records[i], arguments);
}

// Lines of standard input, as many at a time as are there.
int answer_standard_input(TaskPredictor& predictor, const bert::Tokenizer& tokenizer,
                          const Arguments& arguments) {
  constexpr std::size_t kMostAtOnce = 256;
  bert::TextLines lines({"-"}, arguments.lines.text_field);
  bert::InputReport report(bert::bad_rows(arguments.lines.skip_bad_rows));
  std::vector<std::string> waiting;
  const auto answer = [&] {
    const std::vector<std::string> texts = std::exchange(waiting, {});
    if (!texts.empty()) answer_texts(predictor, tokenizer, texts, arguments);
  };
  const auto add = [&](const bert::TextLine& line) {
    if (!bert::is_blank(line.text)) waiting.push_back(line.text);
    if (waiting.size() == kMostAtOnce) answer();
  };
  bert::answer_lines(lines, report, add, answer);
  bert::report_input(report);
  return 0;
}

int answer_question(TaskPredictor& predictor, const Arguments& arguments) {
  const Json record = predictor.answer(arguments.question, arguments.context);
  if (arguments.json) {
    std::cout << bert::one_line(record) << '\n';
    return 0;
  }
  const auto show = [](const std::string& text) { return text.empty() ? "(no answer)" : text; };
  std::cout << show(record["text"]) << '\n';
  for (const Json& answer : record["n_best"]) {
    std::cout << fmt::format("  {:>6.1f}%  {}\n", 100.0 * answer["probability"].get<double>(),
                             show(answer["text"]));
  }
  return 0;
}

// --- The program --------------------------------------------------------------------------------
int run(const Arguments& arguments) {
  const std::int64_t longest =
      bert::describe_model(arguments.checkpoint).config.max_position_embeddings;
  bert::Backend backend =
      bert::make_backend(arguments.runtime, *bert::make_local_communicator(), bert::backend_option);
  bert::Capacity capacity =
      bert::inference_capacity(*backend.device, longest, arguments.lines.batch_tokens.value_or(0));
  capacity.masked = capacity.tokens;  // each may begin a word
  bert::InferenceSession session(arguments.checkpoint, std::move(backend), capacity);
  bert::TaskOptions options = bert::read_task_options(session);
  arguments.task.apply(options);
  if (arguments.lines.skip_bad_rows) options.bad_rows = bert::BadRows::skip;
  TaskPredictor predictor(session, std::move(options));
  const bool questions = predictor.task().kind() == TaskKind::question_answering;
  if (!arguments.input.empty()) return predict_file(predictor, session.tokenizer(), arguments);
  if (!arguments.question.empty()) return answer_question(predictor, arguments);
  if (questions) {
    bert::throw_input_error(
        "{} answers questions: give --input, a file as SQuAD's, or --question and --context",
        arguments.checkpoint);
  }
  if (arguments.texts.empty()) {
    return answer_standard_input(predictor, session.tokenizer(), arguments);
  }
  answer_texts(predictor, session.tokenizer(), arguments.texts, arguments);
  return 0;
}

void add_task_options(bert::CommandLine& line, TaskArguments& task) {
  const char* const kGroup = "What --input is like (as the checkpoint's task says, unless given)";
  const auto add = [&](const char* name, auto& value, const char* meaning) {
    return line.add(name, value, meaning).group(kGroup);
  };
  add("--format", task.format, "of a table; auto: by its name, else by its first line")
      .one_of({"auto", "tsv", "csv", "jsonl"});
  add("--text", task.text, "the column of the text, by name or from 1");
  add("--text-pair", task.text_pair, "the column of the second text of a pair");
  add("--label", task.label, "the column of the label, for --evaluate");
  add("--token-column", task.token_column, "of CoNLL files: words; from 1, or from the last: -1");
  add("--tag-column", task.tag_column, "of CoNLL files: tags, for --evaluate");
  add("--max-length", task.max_length, "tokens of a sequence").range(1, 1 << 20);
  add("--doc-stride", task.doc_stride, "tokens from one window of a context to the next")
      .range(1, 1 << 20);
  add("--max-answer-length", task.max_answer_length, "tokens of an answer").range(1, 1 << 20);
  add("--null-threshold", task.null_threshold,
      "no answer where its score is above the best answer's by more than this; makes \"no answer\" "
      "an answer");
}

}  // namespace

int main(int argc, char** argv) {
  bert::limit_openmp_spinning();
  return bert::run_program([&] {
    bert::CommandLine line(
        "What a fine-tuned model answers: labels, numbers, tags of words, answers to questions. Of "
        "a file, one JSON object a line, in its order; of TEXT, or of lines of standard input, "
        "which are answered as they come; or of --question and --context.",
        "predict");
    Arguments arguments;
    line.add("--checkpoint", arguments.checkpoint,
             "a folder with config.json, weights and tokenizer files, and task.json if the model "
             "was fine-tuned here")
        .required();
    line.add(
        "--input", arguments.input,
        "a table, CoNLL file or SQuAD file as finetune reads, read whole; - is standard input");
    line.add("--output", arguments.output, "where its predictions go; - is standard output")
        .needs("--input");
    line.add("--evaluate", arguments.evaluate, "the file has labels: tell metrics too")
        .needs("--input");
    line.add("--question", arguments.question, "a question about --context").excludes("--input");
    line.add("--context", arguments.context, "a text that may hold the answer").needs("--question");
    line.option("--question").needs("--context");
    line.add("--pairs", arguments.pairs, "TEXTs are pairs, the second after the first");
    line.add("--json", arguments.json, "print answers to TEXT and metrics as JSON");
    line.add("--text-field", arguments.lines.text_field,
             "lines of standard input are JSON objects with the text under this name")
        .excludes("--input")
        .excludes("--question");
    line.add("--skip-bad-rows", arguments.lines.skip_bad_rows,
             "leave out and count what cannot be used of --input, or of lines of JSON");
    add_task_options(line, arguments.task);
    bert::add_batch_option(line, arguments.lines);
    bert::add_backend_options(line, arguments.runtime);
    line.add("TEXT", arguments.texts, "what is to be classified, rated or tagged")
        .excludes("--input")
        .excludes("--question");
    if (const auto done = bert::parse_texts(line, argc, argv, arguments.texts)) return *done;
    if (arguments.pairs && (arguments.texts.empty() || arguments.texts.size() % 2 != 0)) {
      bert::throw_input_error("--pairs: {} TEXTs, expected two for each pair",
                              arguments.texts.size());
    }
    return run(arguments);
  });
}
