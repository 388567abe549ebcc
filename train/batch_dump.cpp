#include "train/batch_dump.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "runtime/error.h"

namespace bert {

void dump_batches(const std::filesystem::path& file, std::int64_t step,
                  const StepBatches& batches) {
  std::ofstream out(file, std::ios::app);
  for (const Batch& batch : batches.micro_batches) {
    nlohmann::ordered_json record;
    record["step"] = step;
    record["input_ids"] = batch.input_ids;
    record["position_ids"] = batch.position_ids;
    record["token_type_ids"] = batch.token_type_ids;
    record["cu_seqlens"] = batch.cu_seqlens;
    record["sequence_index"] = batch.sequence_index;
    record["masked_rows"] = batch.masked_rows;
    record["masked_targets"] = batch.masked_targets;
    record["nsp_labels"] = batch.sequence_labels;
    if (!batch.sequence_values.empty()) record["sequence_values"] = batch.sequence_values;
    if (!batch.answer_spans.empty()) record["answer_spans"] = batch.answer_spans;
    if (!batch.loss_weights.empty()) record["loss_weights"] = batch.loss_weights;
    out << record.dump() << '\n';
  }
  if (!out.flush()) throw_runtime_error("cannot write {}", file.string());
}

}  // namespace bert
