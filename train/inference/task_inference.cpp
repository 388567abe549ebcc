#include "train/inference/task_inference.h"

#include <cstddef>
#include <cstring>
#include <string>

#include "runtime/error.h"
#include "runtime/tensor_copy.h"

namespace bert {
namespace {

// Rows [first, end) of logits [R, n], row by row; or column by column.
std::vector<float> cut(const std::vector<double>& logits, std::int64_t n, std::int64_t first,
                       std::int64_t end, bool by_column) {
  std::vector<float> result;
  result.reserve(static_cast<std::size_t>((end - first) * n));
  const auto take = [&](std::int64_t row, std::int64_t column) {
    result.push_back(static_cast<float>(logits[static_cast<std::size_t>(row * n + column)]));
  };
  if (by_column) {
    for (std::int64_t c = 0; c < n; ++c) {
      for (std::int64_t r = first; r < end; ++r) take(r, c);
    }
    return result;
  }
  for (std::int64_t r = first; r < end; ++r) {
    for (std::int64_t c = 0; c < n; ++c) take(r, c);
  }
  return result;
}

void append_outputs(TaskKind kind, const Batch& batch, const std::vector<double>& logits,
                    std::int64_t n, TaskOutputs& outputs) {
  std::int64_t row = 0;  // token classification
  for (std::int64_t b = 0; b < batch.num_sequences(); ++b) {
    const std::int64_t begin = batch.cu_seqlens[static_cast<std::size_t>(b)],
                       end = batch.cu_seqlens[static_cast<std::size_t>(b + 1)];
    switch (kind) {
      case TaskKind::classification:
      case TaskKind::regression:
        outputs.push_back(cut(logits, n, b, b + 1, false));
        break;
      case TaskKind::token_classification: {
        const std::int64_t first = row;
        while (row < batch.num_masked() && batch.masked_rows[static_cast<std::size_t>(row)] < end) {
          ++row;
        }
        outputs.push_back(cut(logits, n, first, row, false));
        break;
      }
      case TaskKind::question_answering:
        outputs.push_back(cut(logits, n, begin, end, true));
        break;
    }
  }
}

}  // namespace

void check_fits(const std::vector<TaskSequence>& sequences, const BertConfig& config) {
  for (const TaskSequence& sequence : sequences) {
    const auto length = static_cast<std::int64_t>(sequence.input_ids.size());
    if (length > config.max_position_embeddings) {
      throw_input_error("example {} has a sequence of {} tokens: the model reads {}",
                        sequence.example + 1, length, config.max_position_embeddings);
    }
    for (const std::int32_t type : sequence.token_type_ids) {
      if (type < config.type_vocab_size) continue;
      throw_input_error(
          "example {} is a pair of texts: the model knows {} kind(s) of segments "
          "(type_vocab_size), expected 2",
          sequence.example + 1, config.type_vocab_size);
    }
  }
}

TaskOutputs task_outputs(BertForTask& model, Device& device, DeviceBatch& memory,
                         const std::vector<Batch>& batches, ModelLoss* loss, double loss_unit) {
  TaskOutputs outputs;
  for (const Batch& batch : batches) {
    const ModelInput& input = memory.upload(batch);
    model.forward(input, nullptr);
    if (loss != nullptr) model.loss(input, loss, /*with_gradients=*/false, loss_unit);
    append_outputs(model.kind(), batch, copy_to_doubles(device, model.logits()),
                   model.num_outputs(), outputs);
  }
  return outputs;
}

TaskOutputs gather_outputs(TaskOutputs own, LossSums& sums, Communicator& communicator) {
  if (communicator.size() == 1) return own;
  std::string bytes;
  const auto append = [&](const void* data, std::size_t size) {
    bytes.append(static_cast<const char*>(data), size);
  };
  append(&sums, sizeof sums);
  for (const std::vector<float>& one : own) {
    const std::uint64_t size = one.size();
    append(&size, sizeof size);
    append(one.data(), one.size() * sizeof(float));
  }
  TaskOutputs all;
  sums = {};
  for (const std::string& of_rank : communicator.all_gather(std::move(bytes))) {
    std::size_t at = 0;
    const auto take = [&](void* data, std::size_t size) {
      BERT_CHECK(at + size <= of_rank.size());
      std::memcpy(data, of_rank.data() + at, size);
      at += size;
    };
    LossSums theirs;
    take(&theirs, sizeof theirs);
    sums.loss += theirs.loss;
    sums.count += theirs.count;
    sums.correct += theirs.correct;
    while (at < of_rank.size()) {
      std::uint64_t size = 0;
      take(&size, sizeof size);
      take(all.emplace_back(size).data(), size * sizeof(float));
    }
  }
  return all;
}

}  // namespace bert
