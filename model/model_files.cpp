#include "model/model_files.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "model/bert_for_task.h"
#include "runtime/file.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

// The tensor of that name in one of the spellings that are about.
const StoredTensor* find_spelled(const WeightsSource& file, const std::string& name) {
  std::vector<std::string> spellings{name};
  if (name.starts_with("bert.")) spellings.push_back(name.substr(5));
  const std::size_t plain = spellings.size();
  for (std::size_t i = 0; i < plain; ++i) {
    const auto replace_end = [&](std::string_view from, std::string_view to) {
      const std::string& spelling = spellings[i];
      if (!spelling.ends_with(from)) return;
      spellings.push_back(spelling.substr(0, spelling.size() - from.size()) + std::string(to));
    };
    replace_end("LayerNorm.weight", "LayerNorm.gamma");
    replace_end("LayerNorm.bias", "LayerNorm.beta");
  }
  if (name == "cls.predictions.bias") spellings.push_back("cls.predictions.decoder.bias");
  for (const std::string& spelling : spellings) {
    if (const StoredTensor* tensor = file.find(spelling)) return tensor;
  }
  return nullptr;
}

// One Hugging Face tensor of a parameter: rows [first, first + rows) of it.
struct Piece {
  std::string name;
  std::int64_t first = 0;
  std::vector<std::int64_t> shape;
};

std::vector<Piece> pieces(const Parameter& parameter) {
  std::vector<Piece> result;
  const std::int64_t rows =
      parameter.shape[0] / static_cast<std::int64_t>(parameter.hf_names.size());
  for (const std::string& name : parameter.hf_names) {
    Piece piece{name, static_cast<std::int64_t>(result.size()) * rows, parameter.shape};
    piece.shape[0] = rows;
    result.push_back(std::move(piece));
  }
  return result;
}

std::int64_t numel(const std::vector<std::int64_t>& shape) {
  std::int64_t n = 1;
  for (std::int64_t extent : shape) n *= extent;
  return n;
}

// Where `piece` begins in a buffer laid out like the parameters' values.
std::int64_t first_element(const Parameter& parameter, const Piece& piece) {
  return parameter.offset + piece.first * (parameter.numel() / parameter.shape[0]);
}

Tensor piece_view(const Parameter& parameter, const Piece& piece, const Tensor& flat) {
  return flat.slice(first_element(parameter, piece), numel(piece.shape));
}

// By way of f64, which holds every element type exactly.
void read_into(const WeightsSource& file, const StoredTensor& tensor, ParameterStore& store,
               const Tensor& view) {
  std::vector<double> values(static_cast<std::size_t>(view.numel()));
  file.read(tensor, values);
  store.write(view, values);
}

// `name` without the prefix of models that hold a BertModel.
std::string_view base_name(std::string_view name) {
  return name.starts_with("bert.") ? name.substr(5) : name;
}

bool belongs_to_task(std::string_view name) {
  return name.starts_with("classifier.") || name.starts_with("qa_outputs.");
}

bool belongs_to_head(std::string_view name) {
  for (const char* head : {"cls.", "classifier.", "qa_outputs.", "pooler."}) {
    if (base_name(name).starts_with(head)) return true;
  }
  return false;
}

// Copies of what has another name: the decoder is the word embeddings and has the bias beside it;
// positions are 0, 1, 2, ...
bool is_copy(std::string_view name) {
  return name == "cls.predictions.decoder.weight" || name == "cls.predictions.decoder.bias" ||
         base_name(name) == "embeddings.position_ids" ||
         base_name(name) == "embeddings.token_type_ids";
}

std::string some_of(const std::vector<std::string>& names, std::string_view separator) {
  constexpr std::size_t kShown = 8;
  const std::size_t shown = std::min(names.size(), kShown);
  return fmt::format(
      "{}{}",
      fmt::join(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), separator),
      names.size() > shown ? fmt::format("{}and {} more", separator, names.size() - shown) : "");
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// The task whose head `weights` hold, if any. A classifier may be of texts or of words: `head`
// says.
std::optional<TaskKind> find_task(const WeightsSource& weights, const HeadDescription& head) {
  if (weights.find("qa_outputs.weight") != nullptr) return TaskKind::question_answering;
  if (weights.find("classifier.weight") == nullptr) return std::nullopt;
  if (head.architecture == "ForTokenClassification") return TaskKind::token_classification;
  if (head.architecture != "ForSequenceClassification") return std::nullopt;
  const std::vector<std::int64_t>& shape = weights.at("classifier.weight").shape;
  const bool one = !shape.empty() && shape[0] == 1;
  return one || head.regression ? TaskKind::regression : TaskKind::classification;
}

// The folders in `folder` that hold something of that name, by their names.
std::vector<std::string> folders_with(const fs::path& folder, const char* name) {
  std::vector<std::string> found;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    if (fs::exists(entry.path() / name, none)) found.push_back(entry.path().filename().string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// For a folder of models, as a run has.
void refuse_folder_of_models(const fs::path& folder) {
  if (fs::exists(folder / "config.json")) return;
  if (const auto models = folders_with(folder, "model.safetensors"); !models.empty()) {
    throw_input_error("{} is a folder of models ({}); expected one of them", folder.string(),
                      some_of(models, ", "));
  }
}

}  // namespace

void refuse_run_folder(const fs::path& folder) {
  if (fs::exists(folder / "config.json")) return;
  if (fs::is_directory(folder / "checkpoints")) {
    throw_input_error("{} is the folder of a run; its models are in {}, such as latest or best",
                      folder.string(), (folder / "checkpoints").string());
  }
  if (const auto runs = folders_with(folder, "checkpoints"); !runs.empty()) {
    throw_input_error("{} is a folder of runs ({}); a model is {}, for example", folder.string(),
                      some_of(runs, ", "), (folder / runs.front() / "checkpoints/latest").string());
  }
}

ModelDescription describe_model(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    throw_input_error("{} is not a folder with a model (config.json, model.safetensors)",
                      folder.string());
  }
  refuse_run_folder(folder);
  refuse_folder_of_models(folder);
  const fs::path config = folder / "config.json";
  ModelDescription description;
  const std::string text = read_file(config);
  description.config = from_hugging_face_json(text, config.string());
  description.head = head_from_hugging_face_json(text, config.string());
  const auto weights = open_weights(folder);
  if (weights->find("cls.seq_relationship.weight") != nullptr) {
    description.heads = BertForPretraining::Heads::mlm_and_nsp;
  }
  description.has_mlm_head = weights->find("cls.predictions.transform.dense.weight") != nullptr;
  description.has_pooler = find_spelled(*weights, "bert.pooler.dense.weight") != nullptr;
  description.task = find_task(*weights, description.head);
  for (const char* name : {"classifier.weight", "qa_outputs.weight"}) {
    const StoredTensor* const tensor = weights->find(name);
    if (tensor != nullptr && !tensor->shape.empty()) description.task_outputs = tensor->shape[0];
  }
  return description;
}

std::unique_ptr<BertModel> make_model(const ModelDescription& description) {
  const auto outputs = static_cast<std::size_t>(description.task_outputs);
  if (description.task) {
    std::vector<std::string> labels = description.head.labels;
    for (std::size_t i = labels.empty() ? 0 : outputs; i < outputs; ++i) {
      labels.push_back(fmt::format("LABEL_{}", i));
    }
    if (description.task == TaskKind::regression && outputs != 1) {
      throw_input_error("the model gives {} numbers; regression is of one here", outputs);
    }
    if (description.head.multi_label) {
      throw_input_error(
          "the model gives several labels at once (problem_type multi_label_classification); "
          "classification is into one of several here");
    }
    if (description.task != TaskKind::question_answering && labels.size() != outputs) {
      throw_input_error("config.json names {} labels, the classifier has {} outputs", labels.size(),
                        outputs);
    }
    return std::make_unique<BertForTask>(description.config, *description.task, std::move(labels));
  }
  if (outputs != 0) {
    throw_input_error(
        "the weights have a classifier, and config.json does not say of what: expected "
        "architectures to be BertForSequenceClassification or BertForTokenClassification, found "
        "Bert{}",
        description.head.architecture);
  }
  if (description.has_mlm_head) {
    return std::make_unique<BertForPretraining>(description.config, description.heads);
  }
  return std::make_unique<BertModel>(description.config, description.has_pooler);
}

std::string LoadReport::note() const {
  std::vector<std::string> sentences;
  if (!absent.empty()) {
    sentences.push_back(fmt::format("not in it, and new: {}", some_of(absent, ", ")));
  }
  if (!unused.empty()) {
    sentences.push_back(fmt::format("of heads that are not used: {}", some_of(unused, ", ")));
  }
  if (sentences.empty()) return {};
  return fmt::format("{}: {}", source.string(), fmt::join(sentences, "; "));
}

std::string LoadReport::warning() const {
  if (unknown.empty()) return {};
  return fmt::format("{}: {} tensors are of no BERT known here and were left out: {}",
                     source.string(), unknown.size(), some_of(unknown, ", "));
}

LoadReport load_parameters(const WeightsSource& weights, ParameterStore& store,
                           bool missing_heads_ok, bool fresh_task_head) {
  LoadReport report;
  report.source = weights.path();
  std::vector<std::string> wrong;
  std::set<const StoredTensor*> used;
  for (const Parameter& parameter : store.parameters()) {
    for (const Piece& piece : pieces(parameter)) {
      if (fresh_task_head && belongs_to_task(piece.name)) continue;
      const StoredTensor* tensor = find_spelled(weights, piece.name);
      used.insert(tensor);
      if (tensor == nullptr) {
        if (missing_heads_ok && belongs_to_head(piece.name)) {
          report.absent.push_back(piece.name);
        } else {
          wrong.push_back(piece.name + ": missing");
        }
        continue;
      }
      if (tensor->shape != piece.shape) {
        wrong.push_back(fmt::format("{}: is {}, the model wants {}", tensor->name,
                                    tensor->shape_string(), shape_text(piece.shape)));
        continue;
      }
      read_into(weights, *tensor, store, piece_view(parameter, piece, store.values()));
    }
  }
  if (!wrong.empty()) {
    throw_input_error("{} does not hold this model: {}", weights.path().string(),
                      some_of(wrong, "; "));
  }
  for (const StoredTensor& tensor : weights.tensors()) {
    if (used.count(&tensor) != 0 || is_copy(tensor.name)) continue;
    (belongs_to_head(tensor.name) ? report.unused : report.unknown).push_back(tensor.name);
  }
  store.refresh_compute();
  return report;
}

void copy_flat_to_host(const ParameterStore& store, const Tensor& flat,
                       std::vector<std::byte>& host) {
  host.resize(flat.bytes());
  store.device().copy_to_host(host.data(), flat.raw(), flat.bytes());
}

void append_views(const ParameterStore& store, const std::vector<std::byte>& host,
                  const std::string& prefix, std::vector<SafetensorsView>& views) {
  const DType dtype = store.values().dtype();
  const std::size_t element = dtype_size(dtype);
  BERT_CHECK(host.size() == store.values().bytes());
  for (const Parameter& parameter : store.parameters()) {
    for (const Piece& piece : pieces(parameter)) {
      const auto first = static_cast<std::size_t>(first_element(parameter, piece));
      views.push_back({prefix + piece.name, dtype, piece.shape, host.data() + first * element});
    }
  }
}

void load_flat(const SafetensorsFile& file, const std::string& prefix, ParameterStore& store,
               const Tensor& flat) {
  for (const Parameter& parameter : store.parameters()) {
    for (const Piece& piece : pieces(parameter)) {
      const StoredTensor& tensor = file.at(prefix + piece.name);
      if (tensor.shape != piece.shape) {
        throw_input_error("{}: {} is {}, expected {}", file.path().string(), tensor.name,
                          tensor.shape_string(), shape_text(piece.shape));
      }
      read_into(file, tensor, store, piece_view(parameter, piece, flat));
    }
  }
}

std::string model_config_json(const BertModel& model, std::int32_t pad_token_id) {
  return to_hugging_face_json(model.config(), model.head_description(), pad_token_id);
}

void save_model(const fs::path& folder, const BertModel& model, std::int32_t pad_token_id) {
  const ParameterStore& store = model.parameters();
  std::vector<std::byte> values;
  copy_flat_to_host(store, store.values(), values);
  std::vector<SafetensorsView> views;
  append_views(store, values, "", views);
  write_safetensors(folder / "model.safetensors", views);
  write_file_atomic(folder / "config.json", model_config_json(model, pad_token_id));
}

}  // namespace bert
