#include "model/model_files.h"

#include <algorithm>
#include <string_view>

#include "runtime/file.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// The tensor of that name in one of the spellings that are about.
const StoredTensor* find_spelled(const SafetensorsFile& file, const std::string& name) {
  std::vector<std::string> spellings{name};
  if (starts_with(name, "bert.")) spellings.push_back(name.substr(5));
  const std::size_t plain = spellings.size();
  for (std::size_t i = 0; i < plain; ++i) {
    const auto replace_end = [&](std::string_view from, std::string_view to) {
      const std::string& spelling = spellings[i];
      if (spelling.size() < from.size() ||
          spelling.compare(spelling.size() - from.size(), from.size(), from) != 0) {
        return;
      }
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
void read_into(const SafetensorsFile& file, const StoredTensor& tensor, ParameterStore& store,
               const Tensor& view) {
  std::vector<double> values(static_cast<std::size_t>(view.numel()));
  file.read(tensor, values);
  store.write(view, values);
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace

ModelDescription describe_model(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    throw_input_error("{} is not a folder with a model (config.json, model.safetensors)",
                      folder.string());
  }
  const fs::path config = folder / "config.json";
  ModelDescription description;
  description.config = from_hugging_face_json(read_file(config), config.string());
  const SafetensorsFile file(folder / "model.safetensors");
  if (file.find("cls.seq_relationship.weight") != nullptr) {
    description.heads = BertForPretraining::Heads::mlm_and_nsp;
  }
  return description;
}

std::vector<std::string> load_parameters(const SafetensorsFile& file, ParameterStore& store,
                                         bool missing_heads_ok) {
  std::vector<std::string> absent, wrong;
  for (const Parameter& parameter : store.parameters()) {
    for (const Piece& piece : pieces(parameter)) {
      const StoredTensor* tensor = find_spelled(file, piece.name);
      if (tensor == nullptr) {
        const bool head =
            starts_with(piece.name, "cls.") || starts_with(piece.name, "bert.pooler.");
        (missing_heads_ok && head ? absent : wrong).push_back(piece.name + ": missing");
        continue;
      }
      if (tensor->shape != piece.shape) {
        wrong.push_back(fmt::format("{}: is {}, the model wants {}", tensor->name,
                                    tensor->shape_string(), shape_text(piece.shape)));
        continue;
      }
      read_into(file, *tensor, store, piece_view(parameter, piece, store.values()));
    }
  }
  if (!wrong.empty()) {
    constexpr std::size_t kShown = 8;
    const std::size_t shown = std::min(wrong.size(), kShown);
    throw_input_error(
        "{} does not hold this model: {}{}", file.path().string(),
        fmt::join(wrong.begin(), wrong.begin() + static_cast<std::ptrdiff_t>(shown), "; "),
        wrong.size() > shown ? fmt::format("; and {} more", wrong.size() - shown) : std::string());
  }
  store.refresh_compute();
  for (std::string& name : absent) name = name.substr(0, name.find(':'));
  return absent;
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

void save_model(const fs::path& folder, const BertModel& model,
                std::int32_t pad_token_id) {
  const ParameterStore& store = model.parameters();
  std::vector<std::byte> values;
  copy_flat_to_host(store, store.values(), values);
  std::vector<SafetensorsView> views;
  append_views(store, values, "", views);
  write_safetensors(folder / "model.safetensors", views);
  write_file_atomic(folder / "config.json", model_config_json(model, pad_token_id));
}

}  // namespace bert
