#include "train/config/config_sections.h"

#include <filesystem>

#include "runtime/error.h"
#include "train/config/config_reading.h"

namespace bert {

std::string GivenKeys::where(std::string_view key) const {
  const auto it = given.find(key);
  if (it == given.end()) return fmt::format("{} (its default)", key);
  // One that names the key itself.
  if (it->second.starts_with(fmt::format("{}{}=", kArgument, key))) return it->second;
  return fmt::format("{}: {}", it->second, key);
}

void check_micro_batch(const GivenKeys& keys, std::string_view key, const StepConfig& step,
                       std::int64_t length, OrAuto<std::int64_t> micro_batch_tokens) {
  if (!micro_batch_tokens) return;
  if (*micro_batch_tokens < length) {
    throw_input_error("{}: micro-batches of {} tokens have no room for one sequence of {}",
                      keys.where(key), *micro_batch_tokens, length);
  }
  const std::int64_t fixed = step.micro_batch_sequences() * length;
  if (*micro_batch_tokens < fixed) {
    throw_input_error(
        "{}: micro-batches of {} tokens have no room for the {} that train.reproducible "
        "computes at once, train.reproducible_sequences ({}) of {}",
        keys.where(key), *micro_batch_tokens, fixed, step.reproducible_sequences, length);
  }
}

void check_reproducible(const GivenKeys& keys, const StepConfig& step,
                        const RuntimeConfig& runtime) {
  if (step.reproducible && runtime.allreduce_dtype == Precision::bf16) {
    throw_input_error("{}: with train.reproducible gradients travel as whole numbers of 64 bits",
                      keys.where("runtime.allreduce_dtype"));
  }
}

void check_shares(const GivenKeys& keys, std::string_view key, std::int64_t batch_size,
                  std::int64_t fixed, int ranks) {
  if (batch_size < ranks) {
    throw_input_error("{}: a batch of {} is less than one sequence for each of {} ranks",
                      keys.where(key), batch_size, ranks);
  }
  if (fixed > 0 && (batch_size + fixed - 1) / fixed < ranks) {
    throw_input_error(
        "{}: a batch of {} is less than one micro-batch of {} (train.reproducible_sequences) for "
        "each of {} ranks",
        keys.where(key), batch_size, fixed, ranks);
  }
}

bool has_task(const std::string& yaml) {
  return ("\n" + yaml).find("\ntask:") != std::string::npos;
}

bool is_override(const std::string& argument) {
  return argument.find('=') != std::string::npos && !std::filesystem::exists(argument);
}

}  // namespace bert
