// fill_mask: what a checkpoint puts where a text says [MASK], or examples from a corpus.
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <sys/ioctl.h>
#include <unistd.h>

#include "data/pretraining_dataset.h"
#include "kernels/cpu/openmp_wait.h"
#include "model/model_files.h"
#include "runtime/command_line.h"
#include "runtime/communicator.h"
#include "train/backend_options.h"
#include "train/inference_session.h"

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

std::string percent(double probability) { return fmt::format("{:.1f}%", 100.0 * probability); }

// --- A text with [MASK] -------------------------------------------------------------------------
void fill(InferenceSession& session, const std::string& text, const Arguments& arguments) {
  const bert::Tokenizer& tokenizer = session.tokenizer();
  const Batch batch =
      bert::batch_with_masks(tokenizer, text, session.model().capacity().max_seqlen);
  const Predictions predictions = session.predict(batch, arguments.top_k);
  const std::string filled = bert::show_predictions(tokenizer, batch, predictions, 0);
  if (arguments.json) {
    Json answer{{"text", text}, {"filled", filled}, {"masks", Json::array()}};
    for (const auto& row : predictions) answer["masks"].push_back(describe(tokenizer, row));
    std::cout << answer.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
    return;
  }
  print_wrapped("text        ", text);
  print_wrapped("prediction  ", filled);
  for (std::size_t m = 0; m < predictions.size(); ++m) {
    std::cout << fmt::format("  [MASK] {}\n", m + 1);
    for (const TokenPrediction& prediction : predictions[m]) {
      std::cout << fmt::format("    {:>6}  {}\n", percent(prediction.probability),
                               bert::show_piece(tokenizer, prediction.id));
    }
  }
  std::cout << std::endl;
}

int fill_texts(InferenceSession& session, const Arguments& arguments) {
  for (const std::string& text : arguments.texts) fill(session, text, arguments);
  if (!arguments.texts.empty()) return 0;
  std::string line;
  bool any = false;
  while (std::getline(std::cin, line)) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    any = true;
    fill(session, line, arguments);
  }
  if (!any) {
    bert::throw_input_error(
        "no text: give one with [MASK] in it as an argument or on standard input, or --data for "
        "examples of a corpus");
  }
  return 0;
}

// --- Examples of a corpus -----------------------------------------------------------------------
void show_sample(InferenceSession& session, const Batch& batch, int number,
                 const Arguments& arguments) {
  const bert::Tokenizer& tokenizer = session.tokenizer();
  const Predictions predictions = session.predict(batch, std::max(3, arguments.top_k));
  const std::string text = bert::show_original(tokenizer, batch, 0);
  const std::string masked = bert::show_masked(tokenizer, batch, 0);
  const std::string filled = bert::show_predictions(tokenizer, batch, predictions, 0);
  if (arguments.json) {
    Json answer{{"text", text}, {"masked", masked}, {"filled", filled}, {"masks", Json::array()}};
    for (std::size_t m = 0; m < predictions.size(); ++m) {
      answer["masks"].push_back({{"target", bert::show_piece(tokenizer, batch.masked_targets[m])},
                                 {"predictions", describe(tokenizer, predictions[m])}});
    }
    std::cout << answer.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
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
  const bert::PretrainingDataset dataset(corpus, bert::Part::validation, options);

  // Spread over the whole part; a sample without anything to predict gives way to the next one.
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
  const bert::BertConfig config = bert::describe_model(arguments.checkpoint).config;
  const std::int64_t longest = config.max_position_embeddings;
  const bert::Capacity capacity{
      .tokens = longest, .sequences = 1, .masked = longest, .max_seqlen = longest};
  InferenceSession session(arguments.checkpoint,
                           bert::make_backend(arguments.runtime, *bert::make_local_communicator(),
                                              bert::kBackendOptionKeys),
                           capacity);
  return arguments.data.empty() ? fill_texts(session, arguments) : show_samples(session, arguments);
}

}  // namespace

int main(int argc, char** argv) {
  bert::cpu::limit_openmp_spinning(argv);
  return bert::run_program([&] {
    CLI::App app{
        "Fills in the [MASK]s of a text with a trained model: the likeliest tokens and their "
        "probabilities over the whole vocabulary. Without TEXT, each line of standard input is "
        "one. With --data, shows how it fills in texts of a corpus that it was not trained on.",
        "fill_mask"};
    Arguments arguments;
    app.add_option("--checkpoint", arguments.checkpoint,
                   "a folder with config.json, weights and tokenizer files")
        ->required();
    app.add_option("--top-k", arguments.top_k, "how many predictions for each [MASK]")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    CLI::Option* const data =
        app.add_option("--data", arguments.data, "show samples of this corpus's validation part");
    app.add_option("--samples", arguments.samples, "how many of them")
        ->check(CLI::Range(1, 1000000))
        ->needs(data)
        ->capture_default_str();
    bert::add_backend_options(app, arguments.runtime);
    app.add_flag("--json", arguments.json, "print a JSON object per text, one a line");
    app.add_option("TEXT", arguments.texts, "\"The capital of France is [MASK].\"")->excludes(data);
    // CLI11 takes "[MASK] is a [MASK]" for a list in brackets, but not with a blank before it,
    // which is none of the tokenizer's business.
    std::vector<std::string> words(argv, argv + argc);
    std::vector<char*> pointers;
    for (std::string& word : words) {
      if (word.starts_with('[')) word.insert(0, 1, ' ');
      pointers.push_back(word.data());
    }
    if (const auto done = bert::parse_command_line(app, argc, pointers.data())) return *done;
    for (std::string& text : arguments.texts) {
      if (text.starts_with(" [")) text.erase(0, 1);
    }
    return run(arguments);
  });
}
