#include "data/samples/data_loader.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "runtime/error.h"
#include "runtime/start_thread.h"

namespace bert {

namespace {

// What `sequences` of a step are handed out to ranks in: one by one, or by whole micro-batches.
std::uint64_t micro_batches(const LoaderOptions& options, std::int64_t sequences) {
  const std::int64_t size = std::max<std::int64_t>(options.micro_batch_sequences, 1);
  return static_cast<std::uint64_t>((sequences + size - 1) / size);
}

// Options as they are used: limits of 0 replaced by "any number", end_step bounded by the data.
LoaderOptions checked(const DatasetMixture& dataset, LoaderOptions options) {
  if (options.world_size < 1 || options.rank < 0 || options.rank >= options.world_size) {
    throw_input_error("rank {} of {} does not exist", options.rank, options.world_size);
  }
  if (options.batch_size < options.world_size ||
      options.batch_size > std::numeric_limits<std::int32_t>::max()) {
    throw_input_error("train.batch_size is {}, expected at least one sequence for each of {} ranks",
                      options.batch_size, options.world_size);
  }
  if (options.micro_batch_sequences > 0 &&
      micro_batches(options, options.batch_size) < static_cast<std::uint64_t>(options.world_size)) {
    throw_input_error(
        "train.batch_size is {}: {} micro-batches of {} sequences, expected at least one for each "
        "of {} ranks",
        options.batch_size, micro_batches(options, options.batch_size),
        options.micro_batch_sequences, options.world_size);
  }
  if (options.threads < 1 || options.prefetch_steps < 1) {
    throw_input_error("the data loader needs at least one thread and one step ahead, not {} and {}",
                      options.threads, options.prefetch_steps);
  }
  const std::int64_t longest = dataset.any().options().sequence_length;
  const std::int64_t least = std::max<std::int64_t>(options.micro_batch_sequences, 1);
  const auto limit = [&](std::int64_t& value, std::int64_t of_one, const char* what) {
    if (value == 0) value = std::numeric_limits<std::int32_t>::max();
    if (value < least * of_one) {
      throw_input_error(
          "a micro-batch of at most {} {} has no room for {} of {} tokens, which {} {}", value,
          what, least == 1 ? "a sequence" : fmt::format("{} sequences", least), longest,
          least == 1 ? "needs" : "need", least * of_one);
    }
  };
  limit(options.limits.tokens, longest, "tokens");
  limit(options.limits.sequences, 1, "sequences");
  limit(options.limits.masked, dataset.any().masker().num_predictions(longest), "masked tokens");
  if (options.in_order) {
    const auto batch = static_cast<std::uint64_t>(options.batch_size);
    options.end_step = std::min(options.end_step, (dataset.num_samples() + batch - 1) / batch);
  }
  return options;
}

StepBatches make_checked_step(const DatasetMixture& dataset, const LoaderOptions& options,
                              std::uint64_t step) {
  const auto batch_size = static_cast<std::uint64_t>(options.batch_size);
  const std::uint64_t first = options.sequences_before + (step - options.steps_before) * batch_size;
  const std::uint64_t count =
      options.in_order ? std::min(batch_size, dataset.num_samples() - first) : batch_size;
  const auto rank = static_cast<std::uint64_t>(options.rank);
  const auto world = static_cast<std::uint64_t>(options.world_size);
  const auto fixed = static_cast<std::uint64_t>(options.micro_batch_sequences);
  const std::uint64_t shares = micro_batches(options, static_cast<std::int64_t>(count));
  const std::uint64_t of_share = std::max<std::uint64_t>(fixed, 1);
  const std::uint64_t end = std::min(shares * (rank + 1) / world * of_share, count);

  StepBatches result;
  result.step = step;
  result.first_element = first;
  result.global_sequences = static_cast<std::int64_t>(count);
  PretrainingDataset::Scratch scratch;
  std::int64_t most_masked = 0;  // in the last micro-batch
  for (std::uint64_t i = shares * rank / world * of_share; i < end; ++i) {
    const SamplePlan plan =
        dataset.plan(options.in_order ? dataset.in_order(first + i) : dataset.shuffled(first + i));
    const std::int64_t masked = dataset.any().masker().num_predictions(plan.length);
    const bool fits =
        !result.micro_batches.empty() &&
        result.micro_batches.back().num_tokens() + plan.length <= options.limits.tokens &&
        result.micro_batches.back().num_sequences() < options.limits.sequences &&
        most_masked + masked <= options.limits.masked;
    const bool begins = fixed > 0 && i % fixed == 0;
    BERT_CHECK(fits || fixed == 0 || begins, "{} sequences do not fit", fixed);
    if (!fits || begins) {
      result.micro_batches.emplace_back();
      most_masked = 0;
    }
    dataset.append(plan, static_cast<std::uint32_t>(i), result.micro_batches.back(), scratch);
    most_masked += masked;
  }
  for (const Batch& batch : result.micro_batches) {
    result.sequences += batch.num_sequences();
    result.tokens += batch.num_tokens();
    result.masked += batch.num_masked();
  }
  return result;
}

}  // namespace

StepBatches make_step(const DatasetMixture& dataset, const LoaderOptions& options,
                      std::uint64_t step) {
  const LoaderOptions used = checked(dataset, options);
  BERT_CHECK(step < used.end_step);
  return make_checked_step(dataset, used, step);
}

// Threads take steps in turn and put results where next() finds them by number.
struct DataLoader::Queue {
  struct Result {
    StepBatches batches;
    std::exception_ptr error;
  };

  Queue(DatasetMixture data, const LoaderOptions& wanted)
      : dataset(std::move(data)),
        options(checked(dataset, wanted)),
        next_made(options.first_step),
        next_given(options.first_step) {
    try {
      for (int i = 0; i < options.threads; ++i) {
        threads.push_back(start_thread([this] { run(); }));
      }
    } catch (...) {
      stop_threads();
      throw;
    }
  }
  ~Queue() { stop_threads(); }

  void stop_threads() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    changed.notify_all();
    threads.clear();  // waits for them
  }

  bool may_make() const {
    return next_made < options.end_step &&
           next_made - next_given < static_cast<std::uint64_t>(options.prefetch_steps);
  }

  void run() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return stop || may_make(); });
      if (stop) return;
      const std::uint64_t step = next_made++;
      lock.unlock();
      Result result;
      try {
        result.batches = make_checked_step(dataset, options, step);
      } catch (...) {
        result.error = std::current_exception();
      }
      lock.lock();
      ready.emplace(step, std::move(result));
      changed.notify_all();
    }
  }

  std::optional<StepBatches> next() {
    std::unique_lock lock(mutex);
    if (next_given >= options.end_step) return std::nullopt;
    changed.wait(lock, [this] { return ready.contains(next_given); });
    const auto found = ready.find(next_given);
    // A step that failed stays: asking again fails again.
    if (found->second.error) std::rethrow_exception(found->second.error);
    StepBatches batches = std::move(found->second.batches);
    ready.erase(found);
    ++next_given;
    lock.unlock();
    changed.notify_all();
    return batches;
  }

  const DatasetMixture dataset;
  const LoaderOptions options;
  std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t next_made, next_given;
  std::map<std::uint64_t, Result> ready;
  bool stop = false;
  std::vector<std::jthread> threads;
};

DataLoader::DataLoader(DatasetMixture dataset, const LoaderOptions& options)
    : queue_(std::make_unique<Queue>(std::move(dataset), options)) {}

DataLoader::~DataLoader() = default;

std::optional<StepBatches> DataLoader::next() { return queue_->next(); }

}  // namespace bert
