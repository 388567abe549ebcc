// The library's calls, on what the programs use too: InferenceSession, TextEmbedder, mask_filling,
// TaskPredictor.
#include <algorithm>
#include <map>
#include <new>
#include <optional>
#include <stdexcept>

#include "api/bert.h"
#include "data/text/unicode.h"
#include "model/model_files.h"
#include "runtime/communicator.h"
#include "runtime/error.h"
#include "train/inference/batch_packer.h"
#include "train/inference/inference_session.h"
#include "train/inference/mask_filling.h"
#include "train/inference/task_predictor.h"
#include "train/inference/text_embedder.h"

namespace bert {
namespace {

using nlohmann::ordered_json;

// Runs f; the project's errors leave it as the standard ones of the header.
template <typename F>
auto translated(const F& f) {
  try {
    return f();
  } catch (const InputError& error) {
    throw std::invalid_argument(error.what());
  } catch (const Error& error) {
    throw std::runtime_error(error.what());
  } catch (const std::bad_alloc&) {
    throw std::runtime_error("there is not enough memory");
  }
}

std::string as_utf8(const std::string& text) {
  std::uint64_t ignored = 0;
  return is_valid_utf8(text) ? text : replace_invalid_utf8(text, ignored);
}

RuntimeConfig runtime_config(const Pipeline::Options& options) {
  RuntimeConfig config;
  switch (options.device) {
    case Pipeline::Compute::automatic:
      config.device = DeviceChoice::automatic;
      break;
    case Pipeline::Compute::cpu:
      config.device = DeviceChoice::cpu;
      break;
    case Pipeline::Compute::cuda:
      config.device = DeviceChoice::cuda;
      break;
  }
  switch (options.precision) {
    case Pipeline::Number::automatic:
      config.precision = Precision::automatic;
      break;
    case Pipeline::Number::fp64:
      config.precision = Precision::fp64;
      break;
    case Pipeline::Number::fp32:
      config.precision = Precision::fp32;
      break;
    case Pipeline::Number::tf32:
      config.precision = Precision::tf32;
      break;
    case Pipeline::Number::bf16:
      config.precision = Precision::bf16;
      break;
    case Pipeline::Number::fp8:
      config.precision = Precision::fp8;
      break;
  }
  if (options.threads < 0 || options.batch_tokens < 0 || options.max_length < 0) {
    throw_input_error("threads, batch_tokens and max_length: expected 0 or more");
  }
  if (options.threads > 0) config.threads = options.threads;
  return config;
}

InferenceSession open_session(const std::filesystem::path& folder,
                              const Pipeline::Options& options) {
  const std::int64_t longest = describe_model(folder).config.max_position_embeddings;
  const auto place = [](std::string_view key) { return fmt::format("options.{}", key); };
  Backend backend = make_backend(runtime_config(options), *make_local_communicator(), place);
  const Capacity capacity = inference_capacity(*backend.device, longest, options.batch_tokens);
  return InferenceSession(folder, std::move(backend), capacity);
}

Pipeline::Classification classification(const ordered_json& record) {
  Pipeline::Classification result{record["label"], {}};
  for (const auto& [label, probability] : record["probabilities"].items()) {
    result.probabilities.emplace_back(label, probability.get<double>());
  }
  return result;
}

Pipeline::Answer answer_of(const ordered_json& entry) {
  return {entry["text"], entry["start"], entry["end"], entry["score"], entry["probability"]};
}

}  // namespace

struct __attribute__((visibility("hidden"))) Pipeline::Impl {
  Impl(const std::filesystem::path& folder, const Options& given)
      : options(given), session(open_session(folder, given)) {
    if (dynamic_cast<BertForTask*>(&session.model()) == nullptr) return;
    TaskOptions of_task = read_task_options(session);
    if (options.max_length > 0) of_task.max_length = options.max_length;
    predictor = std::make_unique<TaskPredictor>(session, std::move(of_task));
  }

  TaskPredictor& task() {
    session.task_model();  // says what else it is
    return *predictor;
  }

  TextEmbedder& embedder(Vectors vectors) {
    const auto found = embedders.find(vectors);
    if (found != embedders.end()) return found->second;
    EmbeddingOptions embedding;
    if (vectors == Vectors::cls) embedding.pooling = Pooling::cls;
    if (vectors == Vectors::mean) embedding.pooling = Pooling::mean;
    if (vectors == Vectors::pooler) embedding.pooling = Pooling::pooler;
    if (options.max_length > 0) embedding.max_length = options.max_length;
    embedding = complete_from_folder(embedding, session.checkpoint());
    return embedders.emplace(vectors, TextEmbedder(session, embedding)).first->second;
  }

  std::vector<ordered_json> records(const std::vector<std::string>& texts) {
    std::vector<TextQuery> queries;
    for (const std::string& text : texts) queries.push_back({as_utf8(text), ""});
    return task().texts(queries, false);
  }
  std::vector<ordered_json> records(const std::vector<TextPair>& pairs) {
    std::vector<TextQuery> queries;
    for (const auto& [first, second] : pairs) queries.push_back({as_utf8(first), as_utf8(second)});
    return task().texts(queries, true);
  }
  template <typename Texts>
  std::vector<Classification> classify(const Texts& texts) {
    require(TaskKind::classification, "classify");
    std::vector<Classification> result;
    if (texts.empty()) return result;
    for (const ordered_json& record : records(texts)) result.push_back(classification(record));
    return result;
  }
  template <typename Texts>
  std::vector<double> rate(const Texts& texts) {
    require(TaskKind::regression, "rate");
    std::vector<double> result;
    if (texts.empty()) return result;
    for (const ordered_json& record : records(texts)) result.push_back(record["value"]);
    return result;
  }
  void require(TaskKind kind, const char* call) {
    if (task().task().kind() == kind) return;
    throw_input_error("{}: the model of {} is for {}, not for {}", call,
                      session.checkpoint().string(), task_kind_name(task().task().kind()),
                      task_kind_name(kind));
  }

  Options options;
  InferenceSession session;
  std::unique_ptr<TaskPredictor> predictor;  // of a model with a task's head
  std::map<Vectors, TextEmbedder> embedders;
};

Pipeline::Pipeline(const std::filesystem::path& folder) : Pipeline(folder, Options{}) {}
Pipeline::Pipeline(const std::filesystem::path& folder, const Options& options)
    : impl_(translated([&] { return std::make_unique<Impl>(folder, options); })) {}
Pipeline::~Pipeline() = default;
Pipeline::Pipeline(Pipeline&&) noexcept = default;
Pipeline& Pipeline::operator=(Pipeline&&) noexcept = default;

std::string Pipeline::task() const {
  if (impl_->predictor) return std::string(task_kind_name(impl_->predictor->task().kind()));
  const bool masked = dynamic_cast<BertForPretraining*>(&impl_->session.model()) != nullptr;
  return masked ? "masked_tokens" : "none";
}

std::vector<std::string> Pipeline::labels() const {
  return impl_->predictor ? impl_->predictor->task().labels() : std::vector<std::string>();
}

std::size_t Pipeline::width() const {
  return static_cast<std::size_t>(impl_->session.model().config().hidden_size);
}

std::string Pipeline::computed_on() const { return impl_->session.backend().description(); }

std::vector<std::vector<float>> Pipeline::encode(const std::vector<std::string>& texts,
                                                 Vectors vectors) {
  return translated([&] {
    TextEmbedder& embedder = impl_->embedder(vectors);
    std::vector<std::vector<float>> result;
    BatchPacker packer(impl_->session.model().capacity(), [&](const Batch& batch) {
      const std::vector<float> rows = embedder.embed(batch);
      for (auto row = rows.begin(); row != rows.end(); row += embedder.width()) {
        result.emplace_back(row, row + embedder.width());
      }
    });
    std::int64_t cut = 0;
    for (const std::string& text : texts) packer.add(embedder.sequence(as_utf8(text), cut));
    packer.flush();
    return result;
  });
}

std::vector<std::vector<Pipeline::Filling>> Pipeline::fill_mask(const std::string& text,
                                                                int top_k) {
  return translated([&] {
    if (top_k < 1) throw_input_error("top_k is {}: expected 1 or more", top_k);
    InferenceSession& session = impl_->session;
    BertForPretraining& model = session.masked_model();
    std::vector<std::vector<Filling>> result;
    BatchPacker packer(model.capacity(), [&](const Batch& batch) {
      for (const auto& row :
           predict_masked(model, session.device(), session.memory(), batch, top_k)) {
        result.emplace_back();
        for (const TokenPrediction& token : row) {
          result.back().push_back(
              {show_piece(session.tokenizer(), token.id), token.id, token.probability});
        }
      }
    });
    packer.add(
        sequence_with_masks(session.tokenizer(), as_utf8(text), model.capacity().max_seqlen));
    packer.flush();
    return result;
  });
}

std::vector<Pipeline::Classification> Pipeline::classify(const std::vector<std::string>& texts) {
  return translated([&] { return impl_->classify(texts); });
}
std::vector<Pipeline::Classification> Pipeline::classify(const std::vector<TextPair>& pairs) {
  return translated([&] { return impl_->classify(pairs); });
}

std::vector<double> Pipeline::rate(const std::vector<std::string>& texts) {
  return translated([&] { return impl_->rate(texts); });
}
std::vector<double> Pipeline::rate(const std::vector<TextPair>& pairs) {
  return translated([&] { return impl_->rate(pairs); });
}

std::vector<Pipeline::TaggedWord> Pipeline::tag(const std::vector<std::string>& words) {
  return translated([&] {
    impl_->require(TaskKind::token_classification, "tag");
    std::vector<TaggedWord> result;
    if (words.empty()) return result;
    std::vector<std::string> sentence;
    for (const std::string& word : words) sentence.push_back(as_utf8(word));
    const ordered_json record = impl_->task().words({sentence}).front();
    for (std::size_t i = 0; i < sentence.size(); ++i) {
      result.push_back({record["words"][i], record["tags"][i], record["probabilities"][i]});
    }
    return result;
  });
}

std::vector<Pipeline::TaggedWord> Pipeline::tag(const std::string& text) {
  return tag(translated([&] { return split_words(impl_->session.tokenizer(), as_utf8(text)); }));
}

std::vector<Pipeline::Answer> Pipeline::answer(const std::string& question,
                                               const std::string& context) {
  return translated([&] {
    const ordered_json record = impl_->task().answer(as_utf8(question), as_utf8(context));
    std::vector<Answer> answers;
    for (const ordered_json& entry : record["n_best"]) answers.push_back(answer_of(entry));
    if (answers.empty()) answers.push_back({"", 0, 0, 0.0, 1.0});  // the context has no tokens
    // "No answer" may be chosen, or not, by a threshold.
    std::stable_partition(answers.begin(), answers.end(), [&](const Answer& answer) {
      return answer.text == record["text"].get<std::string>();
    });
    return answers;
  });
}

}  // namespace bert
