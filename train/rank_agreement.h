// Ranks that do not do the same work train nonsense, or wait for one another for ever. So before
// they begin they compare what must be alike: program, configuration, corpus, tokenizer, device.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/communicator.h"
#include "train/config/config.h"
#include "train/config/finetune_config.h"

namespace bert {

// What something is called, and what it is.
using Facts = std::vector<std::pair<std::string, std::string>>;

// The first in which they differ: "train.batch_size is 32 here, 64 on rank 0".
std::optional<std::string> first_difference(const Facts& here, const Facts& on_rank_zero);

// "program" and every key of the configuration.
Facts facts_of(const Config& config);
Facts facts_of(const FinetuneConfig& config);

// To be called by every rank, with facts of the same kind. Where some rank's differ from those of
// rank 0, the lowest such rank throws an InputError with the first difference; the others wait here
// for the end of the job, which is that rank's to bring about.
void check_ranks_agree(Communicator& communicator, const Facts& facts);

}  // namespace bert
