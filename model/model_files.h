// The files of a model folder as Hugging Face has them: config.json and the weights.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/bert_for_pretraining.h"
#include "model/task_kind.h"
#include "model/weights/safetensors.h"
#include "model/weights/sharded_weights.h"

namespace bert {

// What a folder's model is: config.json read, heads seen from the tensors that are there.
struct ModelDescription {
  BertConfig config;
  BertForPretraining::Heads heads = BertForPretraining::Heads::mlm;
  bool has_mlm_head = false, has_pooler = false;
  HeadDescription head;           // as config.json has it
  std::optional<TaskKind> task;   // where there is the head of one
  std::int64_t task_outputs = 0;  // rows of that head
};
// InputError, which says where the models are, for the folder of a run, or of several, as finetune
// makes for several seeds; nothing is read.
void refuse_run_folder(const std::filesystem::path& folder);
// InputError when that is refused, or config.json or the weights (open_weights) are missing or
// damaged.
ModelDescription describe_model(const std::filesystem::path& folder);

// A model of that description, whose parameters have no memory yet: a BertForTask where there is
// the head of a task, else a BertForPretraining where there is one for masked tokens, else a
// BertModel. InputError where the head is none of those known here (several labels at once, several
// numbers, multiple choice), or config.json and the weights disagree on it.
std::unique_ptr<BertModel> make_model(const ModelDescription& description);

// What load_parameters did not find, and what it did not need.
struct LoadReport {
  std::filesystem::path source;
  std::vector<std::string> absent;   // parameters of heads; they keep their values
  std::vector<std::string> unused;   // tensors of heads that the model does not have
  std::vector<std::string> unknown;  // tensors that no model known here has

  // Sentences that name them, empty where there is nothing to tell: the first two are as one might
  // expect, the last is worth a warning.
  std::string note() const;
  std::string warning() const;
};

// Fills every parameter from the tensors of `weights`, converting to its dtype. Accepts names
// without the "bert." prefix and LayerNorm.gamma/beta. Ignores the tied decoder, position_ids and
// heads this model does not have. `missing_heads_ok`: what is neither embeddings nor encoder may be
// absent and keeps its values. `fresh_task_head`: the head of a task keeps its values in any case.
// InputError listing missing and misshaped tensors by name.
LoadReport load_parameters(const WeightsSource& weights, ParameterStore& store,
                           bool missing_heads_ok = false, bool fresh_task_head = false);

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
