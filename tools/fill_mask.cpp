// fill_mask: what a checkpoint puts where a text says [MASK], or examples from a corpus.
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <sys/ioctl.h>
#include <unistd.h>

#include "data/samples/pretraining_dataset.h"
#include "data/text/blank.h"
#include "kernels/cpu_module.h"
#include "model/model_files.h"
#include "runtime/communicator.h"
#include "runtime/json.h"
#include "runtime/program.h"
#include "tools/text_options.h"
#include "train/inference/inference_session.h"
#include "train/inference/mask_filling.h"
#include "train/step/backend_options.h"

namespace {

using bert::Batch;
using bert::InferenceSession;
using bert::TokenPrediction;
using Json = nlohmann::ordered_json;
using Predictions = std::vector<std::vector<TokenPrediction>>;

// Long enough for a sentence or two, short enough to be read.
constexpr std::int64_t kSampleLength = 64;

struct Arguments {
  std::string checkpoint, data;
  std::vector<std::string> texts;
  bert::TextOptions input;
  int top_k = 5, samples = 8;
  bert::RuntimeConfig runtime;
  bool json = false;
};

std::size_t terminal_columns() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 100;
}

// Characters, not bytes: continuation bytes of UTF-8 take no column.
std::size_t columns_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u;
  }));
}

// `label`, then `text` beside it, broken at spaces.
void print_wrapped(const std::string& label, const std::string& text) {
  const std::size_t indent = label.size();
  const std::size_t width = std::max<std::size_t>(terminal_columns(), indent + 20);
  std::string line = label;
  std::size_t column = indent, begin = 0;
  while (begin < text.size()) {
    std::size_t end = text.find(' ', begin);
    if (end == std::string::npos) end = text.size();
    const std::string word = text.substr(begin, end - begin);
    const std::size_t size = columns_of(word);
    if (column > indent && column + 1 + size > width) {
      std::cout << line << '\n';
      line.assign(indent, ' ');
      column = indent;
    }
    if (column > indent) {
      line += ' ';
      ++column;
    }
    line += word;
    column += size;
    begin = end + 1;
  }
  std::cout << line << '\n';
}

Json describe(const bert::Tokenizer& tokenizer, const std::vector<TokenPrediction>& row) {
  Json list = Json::array();
  for (const TokenPrediction& prediction : row) {
    list.push_back({{"token", bert::show_piece(tokenizer, prediction.id)},
                    {"id", prediction.id},
                    {"probability", prediction.probability}});
  }
  return list;
}

Predictions predict(InferenceSession& session, const Batch& batch, int top_k) {
  return bert::predict_masked(session.masked_model(), session.device(), session.memory(), batch,
                              top_k);
}

std::string percent(double probability) { return fmt::format("{:.1f}%", 100.0 * probability); }

// --- Texts with [MASK] --------------------------------------------------------------------------
// `row`: of the predictions, the first of this sequence; moves on to the next one.
void print_filled(const bert::Tokenizer& tokenizer, const std::string& text, const Batch& batch,
                  std::int64_t sequence, const Predictions& predictions, std::size_t& row,
                  const Arguments& arguments) {
  const std::int32_t end = batch.cu_seqlens[static_cast<std::size_t>(sequence) + 1];
  const std::string filled = bert::show_predictions(tokenizer, batch, predictions, sequence);
  const std::size_t first = row;
  while (row < predictions.size() && batch.masked_rows[row] < end) ++row;
  if (arguments.json) {
    Json answer{{"text", text}, {"filled", filled}, {"masks", Json::array()}};
    for (std::size_t m = first; m < row; ++m) {
      answer["masks"].push_back(describe(tokenizer, predictions[m]));
    }
    std::cout << bert::one_line(answer) << '\n';
    return;
  }
  print_wrapped("text        ", text);
  print_wrapped("prediction  ", filled);
  for (std::size_t m = first; m < row; ++m) {
    std::cout << fmt::format("  [MASK] {}\n", m - first + 1);
    for (const TokenPrediction& prediction : predictions[m]) {
      std::cout << fmt::format("    {:>6}  {}\n", percent(prediction.probability),
                               bert::show_piece(tokenizer, prediction.id));
    }
  }
  std::cout << '\n';
}

int fill_texts(InferenceSession& session, const Arguments& arguments) {
  const bert::Tokenizer& tokenizer = session.tokenizer();
  const std::int64_t longest = session.model().capacity().max_seqlen;
  std::vector<std::string> waiting;  // those in the micro-batch
  bert::BatchPacker packer(session.model().capacity(), [&](const Batch& batch) {
    const Predictions predictions = predict(session, batch, arguments.top_k);
    std::size_t row = 0;
    for (std::int64_t b = 0; b < batch.num_sequences(); ++b) {
      print_filled(tokenizer, waiting[static_cast<std::size_t>(b)], batch, b, predictions, row,
                   arguments);
    }
    std::cout.flush();
    waiting.clear();
  });
  const auto add = [&](const std::string& text) {
    packer.add(bert::sequence_with_masks(tokenizer, text, longest));
    waiting.push_back(text);
  };
  for (const std::string& text : arguments.texts) add(text);
  packer.flush();
  if (!arguments.texts.empty()) return 0;

  const bert::Throughput throughput;
  bert::TextLines lines(arguments.input.files, arguments.input.text_field);
  bert::InputReport report(bert::bad_rows(arguments.input.skip_bad_rows));
  const auto add_line = [&](const bert::TextLine& line) {
    if (bert::is_blank(line.text)) return;
    try {
      add(line.text);
    } catch (const bert::InputError& error) {
      report.bad("without [MASK], or too long", line.place(), error.what());
    }
  };
  bert::answer_lines(lines, report, add_line, [&] { packer.flush(); });
  if (packer.sequences() == 0) {
    if (!report.findings().empty()) {
      bert::throw_input_error("every text was left out; {}", fmt::join(report.lines(), "; "));
    }
    bert::throw_input_error(
        "no text: give one with [MASK] in it as an argument, by --input or on standard input, or "
        "--data for examples of a corpus");
  }
  bert::report_texts(lines, report, packer, throughput);
  return 0;
}

// --- Examples of a corpus -----------------------------------------------------------------------
void show_sample(InferenceSession& session, const Batch& batch, int number,
                 const Arguments& arguments) {
  const bert::Tokenizer& tokenizer = session.tokenizer();
  const Predictions predictions = predict(session, batch, std::max(3, arguments.top_k));
  const std::string text = bert::show_original(tokenizer, batch, 0);
  const std::string masked = bert::show_masked(tokenizer, batch, 0);
  const std::string filled = bert::show_predictions(tokenizer, batch, predictions, 0);
  if (arguments.json) {
    Json answer{{"text", text}, {"masked", masked}, {"filled", filled}, {"masks", Json::array()}};
    for (std::size_t m = 0; m < predictions.size(); ++m) {
      answer["masks"].push_back({{"target", bert::show_piece(tokenizer, batch.masked_targets[m])},
                                 {"predictions", describe(tokenizer, predictions[m])}});
    }
    std::cout << bert::one_line(answer) << '\n';
    return;
  }
  std::cout << fmt::format("--- {} of {} ---\n", number, arguments.samples);
  print_wrapped("text        ", text);
  print_wrapped("masked      ", masked);
  print_wrapped("prediction  ", filled);
  std::size_t width = 0;
  for (const std::int32_t target : batch.masked_targets) {
    width = std::max(width, columns_of(bert::show_piece(tokenizer, target)));
  }
  std::string label = "top 3       ";
  for (std::size_t m = 0; m < predictions.size(); ++m) {
    const std::int32_t target = batch.masked_targets[m];
    const std::string name = bert::show_piece(tokenizer, target);
    std::string row = label + name + std::string(width - columns_of(name), ' ');
    row += predictions[m][0].id == target ? " = " : "   ";
    for (std::size_t k = 0; k < std::min<std::size_t>(3, predictions[m].size()); ++k) {
      const TokenPrediction& prediction = predictions[m][k];
      row += fmt::format(" {}[{}]", bert::show_piece(tokenizer, prediction.id),
                         percent(prediction.probability));
    }
    std::cout << row << '\n';
    label.assign(label.size(), ' ');
  }
  std::cout << '\n';
}

int show_samples(InferenceSession& session, const Arguments& arguments) {
  const auto corpus = std::make_shared<const bert::Corpus>(arguments.data);
  corpus->check_tokenizer(session.tokenizer());
  bert::DatasetOptions options;
  options.sequence_length = std::min(kSampleLength, session.model().capacity().max_seqlen);
  const bert::PretrainingDataset dataset(corpus, bert::Split::validation, options);

  // Spread over the whole split; a sample without anything to predict gives way to the next one.
  const std::uint64_t count = dataset.num_samples();
  const auto wanted = std::min<std::uint64_t>(static_cast<std::uint64_t>(arguments.samples), count);
  Arguments shown = arguments;
  shown.samples = static_cast<int>(wanted);
  bert::PretrainingDataset::Scratch scratch;
  for (std::uint64_t i = 0; i < wanted; ++i) {
    const std::uint64_t end = (i + 1) * count / wanted;
    for (std::uint64_t sample = i * count / wanted; sample < end; ++sample) {
      Batch batch;
      dataset.append(dataset.plan(dataset.in_order(sample)), 0, batch, scratch);
      if (batch.num_masked() == 0) continue;
      show_sample(session, batch, static_cast<int>(i) + 1, shown);
      break;
    }
  }
  std::cout.flush();
  return 0;
}

int run(const Arguments& arguments) {
  const std::int64_t longest =
      bert::describe_model(arguments.checkpoint).config.max_position_embeddings;
  bert::Backend backend =
      bert::make_backend(arguments.runtime, *bert::make_local_communicator(), bert::backend_option);
  const bert::Capacity capacity =
      bert::inference_capacity(*backend.device, longest, arguments.input.batch_tokens.value_or(0));
  InferenceSession session(arguments.checkpoint, std::move(backend), capacity);
  session.masked_model();  // refuses another one before texts are asked for
  return arguments.data.empty() ? fill_texts(session, arguments) : show_samples(session, arguments);
}

}  // namespace

int main(int argc, char** argv) {
  bert::limit_openmp_spinning();
  return bert::run_program([&] {
    bert::CommandLine line(
        "Fills in the [MASK]s of a text with a trained model: the likeliest tokens and their "
        "probabilities over the whole vocabulary. Without TEXT, each line of --input is one, or of "
        "standard input, which is answered as it comes. With --data, shows how it fills in texts "
        "of a corpus that it was not trained on.",
        "fill_mask");
    Arguments arguments;
    line.add("--checkpoint", arguments.checkpoint,
             "a folder with config.json, weights and tokenizer files")
        .required();
    line.add("--top-k", arguments.top_k, "how many predictions for each [MASK]").range(1, 1000);
    line.add("--data", arguments.data, "show samples of this corpus's validation split");
    line.add("--samples", arguments.samples, "how many of them").range(1, 1000000).needs("--data");
    bert::add_text_options(line, arguments.input,
                           "no JSON object with the text, no [MASK] in it, or too long");
    line.option("--input").excludes("--data");
    line.option("--text-field").excludes("--data");
    bert::add_backend_options(line, arguments.runtime);
    line.add("--json", arguments.json, "print a JSON object per text, one a line");
    line.add("TEXT", arguments.texts, "\"The capital of France is [MASK].\"")
        .excludes("--data")
        .excludes("--input");
    if (const auto done = bert::parse_texts(line, argc, argv, arguments.texts)) return *done;
    if (arguments.input.files.empty()) arguments.input.files = {"-"};
    return run(arguments);
  });
}
