// BatchPacker: sequences that come one by one, as micro-batches in the order in which they came.
#pragma once

#include <cstdint>
#include <functional>

#include "data/samples/batch.h"
#include "model/context.h"
#include "train/tasks/task.h"

namespace bert {

class BatchPacker {
 public:
  // `use` is called with each micro-batch, none of them empty. Its sequence_index counts all
  // sequences from 0.
  BatchPacker(const Capacity& capacity, std::function<void(const Batch&)> use);

  // `sequence`, which fits into an empty micro-batch, its `rows` being what is masked. Hands on the
  // sequences before it if there is no room for it beside them.
  void add(const TaskSequence& sequence);
  // Hands on what has been added since.
  void flush();

  std::int64_t sequences() const { return sequences_; }  // that were added
  std::int64_t tokens() const { return tokens_; }

 private:
  Capacity capacity_;
  std::function<void(const Batch&)> use_;
  Batch batch_;
  std::int64_t sequences_ = 0, tokens_ = 0;
};

}  // namespace bert
