#include "data/batch.h"

namespace bert {

void append_sequence(Batch& batch, std::span<const std::int32_t> input_ids,
                     std::span<const std::int32_t> token_type_ids, std::uint32_t index) {
  for (std::size_t position = 0; position < input_ids.size(); ++position) {
    batch.position_ids.push_back(static_cast<std::int32_t>(position));
  }
  batch.input_ids.insert(batch.input_ids.end(), input_ids.begin(), input_ids.end());
  batch.token_type_ids.insert(batch.token_type_ids.end(), token_type_ids.begin(),
                              token_type_ids.end());
  if (batch.cu_seqlens.empty()) batch.cu_seqlens.push_back(0);
  batch.cu_seqlens.push_back(static_cast<std::int32_t>(batch.num_tokens()));
  batch.sequence_index.push_back(index);
}

}  // namespace bert
