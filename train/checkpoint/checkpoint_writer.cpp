#include "train/checkpoint/checkpoint_writer.h"

#include <utility>

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/error.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

// Training comes first: on Linux each thread has a niceness of its own. Not the greatest, with
// which a thread on a busy machine hardly runs at all: the next checkpoint, or the end, waits for
// it.
void yield_to_others() {
  constexpr int kNicer = 5;
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kNicer);
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path folder, std::int64_t keep, const BertModel& model,
                                   const Tokenizer& tokenizer, std::string task)
    : folder_(std::move(folder)), keep_(keep), snapshot_(model, tokenizer, std::move(task)) {}

CheckpointWriter::~CheckpointWriter() = default;  // the future waits

void CheckpointWriter::save(const TrainerState& state, const Moments& moments) {
  BERT_CHECK(!writing_.valid(), "what became of the last checkpoint has not been asked for");
  const Clock::time_point start = Clock::now();
  snapshot_.take(state, moments);
  writing_ = std::async(std::launch::async, [this, start] {
    yield_to_others();
    return write(start);
  });
}

CheckpointWriter::Outcome CheckpointWriter::write(Clock::time_point start) const {
  const TrainerState& state = snapshot_.state();
  Outcome outcome;
  outcome.step = state.step;
  try {
    snapshot_.save(folder_);
    set_links(folder_, state.step, state.best_step);
    prune_checkpoints(folder_, keep_);
  } catch (const std::exception& error) {
    outcome.error = error.what();
  }
  outcome.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return outcome;
}

std::optional<CheckpointWriter::Outcome> CheckpointWriter::ended() {
  if (!writing_.valid() ||
      writing_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    return std::nullopt;
  }
  return writing_.get();
}

std::optional<CheckpointWriter::Outcome> CheckpointWriter::wait() {
  if (!writing_.valid()) return std::nullopt;
  return writing_.get();
}

}  // namespace bert
