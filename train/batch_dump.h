// Micro-batches as JSON lines, so that another implementation can train on the very same data.
#pragma once

#include <cstdint>
#include <filesystem>

#include "data/samples/data_loader.h"

namespace bert {

// Appends each micro-batch of a step: "step" and the members of Batch under their names, but for
// sequence_labels, which is "nsp_labels" for those who read it before there were others.
// RuntimeError if the file cannot be written.
void dump_batches(const std::filesystem::path& file, std::int64_t step, const StepBatches& batches);

}  // namespace bert
