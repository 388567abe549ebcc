// libbert: trained BERTs in C++ programs. One header; it needs the standard library only.
//
//   bert::Pipeline pipeline("my_model");
//   for (const auto& label : pipeline.classify({"A fine film."})) std::cout << label.label << '\n';
//
// What a model can do follows from its head: fill_mask from one for masked tokens, classify, rate,
// tag and answer from that of a task it was fine-tuned on; encode from any.
//
// Errors: std::invalid_argument where what was given is wrong (a folder, an option, a text that the
// call does not take, a call that the model is not for), std::runtime_error where something fails
// (memory, a device). The message says what, where, and what was expected. After either the
// pipeline can go on being used.
//
// Texts are UTF-8; what is not is read as U+FFFD. A pipeline is used by one thread at a time, and
// computes with several threads of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#if defined(__GNUC__)
#define BERT_API __attribute__((visibility("default")))
#else
#define BERT_API
#endif

namespace bert {

class BERT_API Pipeline {
 public:
  enum class Compute { automatic, cpu, cuda };  // automatic: a GPU where there is one
  // automatic: bf16 on a GPU, fp32 on a CPU. tf32 and fp8 need a GPU; fp64 is slow.
  enum class Number { automatic, fp64, fp32, tf32, bf16, fp8 };
  struct Options {
    Compute device = Compute::automatic;
    Number precision = Number::automatic;
    // Of a CPU; 0: one for each processor. The same for all pipelines of a process.
    int threads = 0;
    std::int64_t batch_tokens = 0;  // computed at once, and room for; 0: what suits the device
    std::int64_t max_length = 0;    // tokens of a text, longer ones are cut; 0: as the folder says
  };

  // `folder`: a checkpoint of this project or a folder of Hugging Face's: config.json, weights
  // (safetensors or pytorch_model.bin), tokenizer files; task.json and sentence-transformers' files
  // are heeded if there.
  explicit Pipeline(const std::filesystem::path& folder);
  Pipeline(const std::filesystem::path& folder, const Options& options);
  ~Pipeline();
  Pipeline(Pipeline&&) noexcept;
  Pipeline& operator=(Pipeline&&) noexcept;

  // "classification", "regression", "token_classification", "question_answering"; "masked_tokens";
  // "none" without a head.
  std::string task() const;
  std::vector<std::string> labels() const;  // of classify and tag, in the model's order
  std::size_t width() const;                // numbers of a vector of encode
  std::string computed_on() const;          // "cpu f32 with avx2 instructions, 2 threads"

  // automatic: as sentence-transformers' files in the folder say, else the mean. cls: the state of
  // [CLS]; mean: over all tokens, [CLS] and [SEP] included; pooler: the pooler's output.
  enum class Vectors { automatic, cls, mean, pooler };
  // A vector for each text. With automatic, of length 1 where the folder says so.
  std::vector<std::vector<float>> encode(const std::vector<std::string>& texts,
                                         Vectors vectors = Vectors::automatic);

  struct Filling {
    std::string token;  // "that"; "##ing" for a piece that goes on a word
    std::int32_t id = 0;
    double probability = 0;
  };
  // For each [MASK] of the text the `top_k` likeliest tokens, likeliest first. No text is cut:
  // invalid_argument where it is too long.
  std::vector<std::vector<Filling>> fill_mask(const std::string& text, int top_k = 5);

  struct Classification {
    std::string label;  // the likeliest
    // Of all, in the model's order; six digits behind the point.
    std::vector<std::pair<std::string, double>> probabilities;
  };
  std::vector<Classification> classify(const std::vector<std::string>& texts);
  using TextPair = std::pair<std::string, std::string>;
  std::vector<Classification> classify(const std::vector<TextPair>& pairs);

  // The number that a model of regression gives each.
  std::vector<double> rate(const std::vector<std::string>& texts);
  std::vector<double> rate(const std::vector<TextPair>& pairs);

  struct TaggedWord {
    std::string word, tag;
    double probability = 0;  // of that tag
  };
  // Words must hold no white space.
  std::vector<TaggedWord> tag(const std::vector<std::string>& words);
  // The words of a text: what stands between white space and marks, and the marks.
  std::vector<TaggedWord> tag(const std::string& text);

  struct Answer {
    std::string text;                // "" for no answer
    std::size_t begin = 0, end = 0;  // code points of the context
    double score = 0;                // the sum of two logits
    double probability = 0;          // among the answers given
  };
  // The model's answer within `context`, then others, best first. "No answer" is one of them where
  // the model was trained on questions without answers.
  std::vector<Answer> answer(const std::string& question, const std::string& context);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bert
