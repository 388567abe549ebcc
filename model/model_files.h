// The files of a model folder as Hugging Face has them: config.json and model.safetensors.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "model/bert_for_pretraining.h"
#include "model/safetensors.h"

namespace bert {

// What a folder's model is: config.json read, heads seen from the tensors that are there.
struct ModelDescription {
  BertConfig config;
  BertForPretraining::Heads heads = BertForPretraining::Heads::mlm;
};
// InputError when config.json or model.safetensors is missing or damaged.
ModelDescription describe_model(const std::filesystem::path& folder);

// Fills every parameter from the tensors of `file`, converting to its dtype. Accepts names without
// the "bert." prefix and LayerNorm.gamma/beta. Ignores the tied decoder, position_ids and heads
// this model does not have. `missing_heads_ok`: parameters under "cls." and the pooler may be
// absent (an encoder saved alone) and keep their values; their names are returned.
// InputError listing missing and misshaped tensors by name.
std::vector<std::string> load_parameters(const SafetensorsFile& file, ParameterStore& store,
                                         bool missing_heads_ok = false);

// config.json of a model.
std::string model_config_json(const BertModel& model, std::int32_t pad_token_id);

// Writes config.json and model.safetensors into `folder`, which exists.
void save_model(const std::filesystem::path& folder, const BertModel& model,
                std::int32_t pad_token_id);

// Copies a flat buffer laid out like store.values() (parameters, gradients, moments of the
// optimizer) to host memory, whose room is used again.
void copy_flat_to_host(const ParameterStore& store, const Tensor& flat,
                       std::vector<std::byte>& host);
// Appends its parts to `views`, one for each Hugging Face tensor, `prefix` before each name. `host`
// is not copied. And the reverse: fills `flat`, on the device, from a file.
void append_views(const ParameterStore& store, const std::vector<std::byte>& host,
                  const std::string& prefix, std::vector<SafetensorsView>& views);
void load_flat(const SafetensorsFile& file, const std::string& prefix, ParameterStore& store,
               const Tensor& flat);

}  // namespace bert
