// embed: vectors of texts, out of a checkpoint's hidden states.
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "kernels/cpu_module.h"
#include "runtime/communicator.h"
#include "runtime/file.h"
#include "runtime/program.h"
#include "tools/output_file.h"
#include "tools/text_options.h"
#include "train/inference/npy_file.h"
#include "train/inference/text_embedder.h"
#include "train/step/backend_options.h"

namespace {

namespace fs = std::filesystem;
using bert::Batch;
using bert::Pooling;

struct Arguments {
  std::string checkpoint, output = "-";
  std::string pooling = "auto";
  std::vector<std::string> given;  // on the command line
  bert::TextOptions texts;
  bert::EmbeddingOptions options;
  bert::RuntimeConfig runtime;
};

// --- Where vectors go ---------------------------------------------------------------------------
class Output {
 public:
  virtual ~Output() = default;
  // The vectors of the sequences of `batch`: [B, C] or, of tokens, [T, C].
  virtual void write(const Batch& batch, const std::vector<float>& vectors) = 0;
  virtual void commit() = 0;
};

// [N, C]; of tokens those of all texts one after the other, and how many each has beside it.
class NpyOutput final : public Output {
 public:
  NpyOutput(const fs::path& path, std::int64_t width, Pooling pooling) : vectors_(path, width) {
    if (pooling != Pooling::tokens) return;
    fs::path lengths = path;
    lengths_.emplace(lengths.replace_extension(".lengths.npy"), 0);
  }
  void write(const Batch& batch, const std::vector<float>& vectors) override {
    vectors_.append(vectors);
    if (!lengths_) return;
    for (std::size_t b = 0; b + 1 < batch.cu_seqlens.size(); ++b) {
      const std::int64_t length = batch.cu_seqlens[b + 1] - batch.cu_seqlens[b];
      lengths_->append({&length, 1});
    }
  }
  void commit() override {
    if (lengths_) lengths_->commit();
    vectors_.commit();
  }

 private:
  bert::NpyFile<float> vectors_;
  std::optional<bert::NpyFile<std::int64_t>> lengths_;
};

// An object a text: its number from 0, and the vector; of tokens the tokens, and a vector for each.
class JsonLinesOutput final : public Output {
 public:
  JsonLinesOutput(const std::string& path, std::int64_t width, Pooling pooling,
                  const bert::Tokenizer& tokenizer)
      : width_(static_cast<std::size_t>(width)),
        of_tokens_(pooling == Pooling::tokens),
        tokenizer_(tokenizer) {
    if (path != "-") file_.emplace(path);
  }
  void write(const Batch& batch, const std::vector<float>& vectors) override {
    std::string lines;
    for (std::size_t b = 0; b + 1 < batch.cu_seqlens.size(); ++b) {
      fmt::format_to(std::back_inserter(lines), "{{\"index\": {}, ", batch.sequence_index[b]);
      if (of_tokens_) {
        add_tokens(batch, b, vectors, lines);
      } else {
        add_vector("\"embedding\": ", vectors, b, lines);
      }
      lines += "}\n";
    }
    if (file_) {
      file_->write(lines);
    } else if (!(std::cout << lines << std::flush)) {
      bert::throw_runtime_error("cannot write to standard output");
    }
  }
  void commit() override {
    if (file_) file_->commit();
  }

 private:
  void add_vector(std::string_view before, const std::vector<float>& vectors, std::size_t row,
                  std::string& lines) const {
    const float* const vector = vectors.data() + row * width_;
    fmt::format_to(std::back_inserter(lines), "{}[{}]", before,
                   fmt::join(vector, vector + width_, ", "));
  }
  void add_tokens(const Batch& batch, std::size_t b, const std::vector<float>& vectors,
                  std::string& lines) const {
    const auto first = static_cast<std::size_t>(batch.cu_seqlens[b]),
               end = static_cast<std::size_t>(batch.cu_seqlens[b + 1]);
    nlohmann::json tokens = nlohmann::json::array();
    for (std::size_t row = first; row < end; ++row) {
      tokens.push_back(tokenizer_.piece(batch.input_ids[row]));
    }
    lines += "\"tokens\": " + tokens.dump() + ", \"embeddings\": [";
    for (std::size_t row = first; row < end; ++row) {
      add_vector(row == first ? "" : ", ", vectors, row, lines);
    }
    lines += ']';
  }

  std::size_t width_;
  bool of_tokens_;
  const bert::Tokenizer& tokenizer_;
  std::optional<bert::AtomicFile> file_;
};

std::unique_ptr<Output> make_output(const Arguments& arguments, const bert::TextEmbedder& embedder,
                                    const bert::Tokenizer& tokenizer) {
  if (fs::path(arguments.output).extension() == ".npy") {
    return std::make_unique<NpyOutput>(arguments.output, embedder.width(), embedder.pooling());
  }
  return std::make_unique<JsonLinesOutput>(arguments.output, embedder.width(), embedder.pooling(),
                                           tokenizer);
}

// --- The work -----------------------------------------------------------------------------------
int run(const Arguments& arguments) {
  bert::refuse_to_replace(arguments.output, arguments.texts.files);
  bert::EmbeddingOptions options = arguments.options;
  if (arguments.pooling != "auto") options.pooling = bert::parse_pooling(arguments.pooling);
  options = bert::complete_from_folder(options, arguments.checkpoint);
  std::unique_ptr<bert::BertModel> model =
      bert::make_embedding_model(arguments.checkpoint, options.pooling.value_or(Pooling::mean));
  bert::Backend backend =
      bert::make_backend(arguments.runtime, *bert::make_local_communicator(), bert::backend_option);
  const bert::Capacity capacity =
      bert::inference_capacity(*backend.device, model->config().max_position_embeddings,
                               arguments.texts.batch_tokens.value_or(0));
  bert::InferenceSession session(arguments.checkpoint, std::move(model), std::move(backend),
                                 capacity);
  bert::TextEmbedder embedder(session, options);
  bert::TextLines lines(arguments.texts.files, arguments.texts.text_field);
  const std::unique_ptr<Output> output = make_output(arguments, embedder, session.tokenizer());
  const bert::Throughput throughput;
  bert::BatchPacker packer(
      capacity, [&](const Batch& batch) { output->write(batch, embedder.embed(batch)); });
  std::int64_t cut = 0;
  for (const std::string& text : arguments.given) packer.add(embedder.sequence(text, cut));
  bert::InputReport report(bert::bad_rows(arguments.texts.skip_bad_rows));
  bert::answer_lines(
      lines, report,
      [&](const bert::TextLine& line) { packer.add(embedder.sequence(line.text, cut)); },
      [&] { packer.flush(); });
  output->commit();
  if (cut > 0) {
    std::cerr << fmt::format("cut to {} tokens (--max-length): {} of {}\n", embedder.max_length(),
                             bert::plural(cut, "text"), packer.sequences());
  }
  std::cerr << fmt::format(
      "{} vectors of {} numbers{}; {}\n", bert::pooling_name(embedder.pooling()), embedder.width(),
      embedder.normalizes() ? ", of length 1" : "", session.backend().description());
  bert::report_texts(lines, report, packer, throughput);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  bert::limit_openmp_spinning();
  return bert::run_program([&] {
    bert::CommandLine line(
        "Turns texts into vectors with a model's last hidden states: one vector a text, or one a "
        "token. Texts are TEXT, or the lines of --input. Where the folder has the files of "
        "sentence-transformers, pooling, length and "
        "normalisation are as they say unless given here.",
        "embed");
    Arguments arguments;
    line.add("--checkpoint", arguments.checkpoint,
             "a folder with config.json, weights and tokenizer files")
        .required();
    bert::add_text_options(line, arguments.texts, "no JSON object with the text");
    line.add("--output", arguments.output,
             "NAME.npy: float32 [texts, C]; any other name, and - for standard output: JSON "
             "lines. A file has its name only when all is in it");
    line.add("--pooling", arguments.pooling,
             "what a text's vector is: cls, the state of [CLS]; mean, over all tokens; "
             "pooler, the pooler's output; tokens, a vector for each token (with .npy, those "
             "of all texts in a row, and NAME.lengths.npy). auto: as the folder says, else "
             "mean")
        .one_of({"auto", "cls", "mean", "pooler", "tokens"});
    std::optional<bool>& normalize = arguments.options.normalize;
    line.add_flag("--normalize", normalize, true,
                  "make vectors of length 1. Default: what the folder says, else not");
    line.add_flag("--no-normalize", normalize, false, "leave vectors as they are")
        .excludes("--normalize");
    line.add("--max-length", arguments.options.max_length,
             "tokens of a text, [CLS] and [SEP] included; longer texts are cut, and counted. "
             "Default: what the folder says, else what the model takes")
        .range(1, 1 << 20);
    bert::add_backend_options(line, arguments.runtime);
    line.add("TEXT", arguments.given, "texts, instead of lines of --input or of standard input")
        .excludes("--input");
    if (const auto done = bert::parse_texts(line, argc, argv, arguments.given)) return *done;
    if (arguments.given.empty() && arguments.texts.files.empty()) arguments.texts.files = {"-"};
    return run(arguments);
  });
}
