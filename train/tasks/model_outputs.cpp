#include "train/tasks/model_outputs.h"

#include <fmt/format.h>

#include "model/bert_for_pretraining.h"
#include "model/bert_for_task.h"

namespace bert {

std::vector<ModelOutput> model_outputs(const BertModel& model, const Batch& batch) {
  std::vector<ModelOutput> outputs;
  const auto add = [&](std::string name, const Tensor& tensor, std::int64_t rows,
                       std::int64_t columns) {
    outputs.push_back({std::move(name), tensor, rows, columns});
  };
  const std::int64_t hidden_size = model.config().hidden_size;
  const std::vector<Tensor> states = model.hidden_states();
  for (std::size_t l = 0; l < states.size(); ++l) {
    add(fmt::format("hidden_states.{}", l), states[l], batch.num_tokens(), hidden_size);
  }
  if (model.has_pooler()) add("pooled", model.pooled(), batch.num_sequences(), hidden_size);
  if (const auto* pretraining = dynamic_cast<const BertForPretraining*>(&model)) {
    add("mlm_logits", pretraining->mlm_logits(), batch.num_masked(), model.config().vocab_size);
    if (model.has_nsp()) add("nsp_logits", pretraining->nsp_logits(), batch.num_sequences(), 2);
  }
  if (const auto* task = dynamic_cast<const BertForTask*>(&model)) {
    const bool words = task->kind() == TaskKind::token_classification,
               tokens = task->kind() == TaskKind::question_answering;
    add("logits", task->logits(),
        words    ? batch.num_masked()
        : tokens ? batch.num_tokens()
                 : batch.num_sequences(),
        task->num_outputs());
  }
  return outputs;
}

}  // namespace bert
