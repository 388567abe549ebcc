// What a model computes of a batch, under the names by which `forward` writes it.
#pragma once

#include <string>
#include <vector>

#include "data/samples/batch.h"
#include "model/bert_model.h"

namespace bert {

// The first `rows` rows and `columns` columns of `tensor`, which may have more.
struct ModelOutput {
  std::string name;
  Tensor tensor{};
  std::int64_t rows = 0, columns = 0;
};

// After model.forward() on `batch`, before loss(): hidden_states.0 (the embeddings) to
// hidden_states.L [T, C]; pooled [B, C] where there is a pooler; the logits of the heads:
// mlm_logits [M, V] and nsp_logits [B, 2], or those of a task, logits: [B, outputs], of words
// [M, outputs], of answers [T, 2]. In device memory, valid until the next forward.
std::vector<ModelOutput> model_outputs(const BertModel& model, const Batch& batch);

}  // namespace bert
