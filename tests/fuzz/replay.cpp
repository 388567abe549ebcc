// The main program of a fuzz target without libFuzzer: every input of the corpus, then so many
// changed ones, the same every time. They run in a child process, with little memory and stack; the
// parent sees how it ends, and keeps the input that ended it.
//
//   fuzz_NAME FOLDER|FILE... [--mutations N]
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <thread>

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/program.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/mutator.h"

namespace bert::fuzz {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr auto kMostTime = std::chrono::seconds(20);  // for one input
constexpr rlim_t kMostMemory = rlim_t{3}
                               << 30;  // of addresses; most of it is libraries' and threads'
constexpr std::size_t kMostInput = 1 << 20;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // they reserve terabytes of addresses
#else
constexpr bool kSanitized = false;
#endif
// Recursion of some thousand levels must show; a sanitizer's frames are larger.
constexpr rlim_t kMostStack = kSanitized ? 4 << 20 : 256 << 10;

struct Options {
  std::vector<fs::path> files;
  std::uint64_t mutations = 0;
};

Options parse_arguments(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--mutations" && i + 1 < argc) {
      options.mutations = std::stoull(argv[++i]);
    } else if (fs::is_directory(argument)) {
      for (const auto& entry : fs::directory_iterator(argument)) {
        options.files.push_back(entry.path());
      }
    } else {
      options.files.emplace_back(argument);
    }
  }
  std::sort(options.files.begin(), options.files.end());
  if (options.files.empty()) throw_input_error("expected a folder of inputs, or inputs");
  return options;
}

// What the child is at, for the parent to see.
struct Progress {
  std::atomic<std::uint64_t> inputs{0};
  char name[256] = {};
  std::size_t size = 0;
  std::uint8_t input[kMostInput] = {};
};

Progress& shared_progress() {
  void* memory =
      ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  require(memory != MAP_FAILED, "memory can be shared");
  return *new (memory) Progress;
}

void run_input(Progress& progress, const std::string& name, const std::string& input) {
  require(input.size() <= kMostInput, "inputs have at most 1 MiB");
  std::snprintf(progress.name, sizeof progress.name, "%s", name.c_str());
  std::memcpy(progress.input, input.data(), input.size());
  progress.size = input.size();
  ++progress.inputs;
  // A copy of its own, so that a sanitizer sees what lies beyond its end.
  const std::vector<std::uint8_t> bytes(input.begin(), input.end());
  try {
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  } catch (const std::exception& error) {
    require(false, fmt::format("only InputError is thrown, not: {}", error.what()));
  }
}

[[noreturn]] void run_all(const Options& options, Progress& progress) {
  const rlimit stack{kMostStack, kMostStack}, memory{kMostMemory, kMostMemory}, no_core{0, 0};
  ::setrlimit(RLIMIT_STACK, &stack);
  ::setrlimit(RLIMIT_CORE, &no_core);
  if (!kSanitized) ::setrlimit(RLIMIT_AS, &memory);
  std::vector<std::string> inputs;
  for (const fs::path& file : options.files) {
    inputs.push_back(read_file(file));
    run_input(progress, file.filename().string(), inputs.back());
  }
  const Mutator mutator(std::move(inputs));
  for (std::uint64_t seed = 0; seed < options.mutations; ++seed) {
    run_input(progress, fmt::format("mutation {}", seed), mutator.input(seed));
  }
  std::exit(0);  // with the clean-up that the scratch folder needs
}

// Waits for the child; "" if all went well, else how it ended.
std::string watch(pid_t child, const Progress& progress) {
  std::uint64_t seen = 0;
  auto since = Clock::now();
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (progress.inputs != seen) {
      seen = progress.inputs;
      since = Clock::now();
    } else if (Clock::now() - since > kMostTime) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return fmt::format("took more than {} s", kMostTime.count());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  if (WIFSIGNALED(status)) return fmt::format("ended by {}", ::strsignal(WTERMSIG(status)));
  return WEXITSTATUS(status) == 0 ? "" : fmt::format("exit code {}", WEXITSTATUS(status));
}

int replay(int argc, char** argv) {
  const Options options = parse_arguments(argc, argv);
  Progress& progress = shared_progress();
  const pid_t child = ::fork();
  require(child >= 0, "a process can be started");
  if (child == 0) run_all(options, progress);
  const std::string end = watch(child, progress);
  if (end.empty()) {
    fmt::print("{} inputs\n", progress.inputs.load());
    return 0;
  }
  const std::string kept = fs::path(argv[0]).filename().string() + ".failed_input";
  write_file_atomic(kept, {reinterpret_cast<const char*>(progress.input), progress.size});
  throw_runtime_error("{}: {}; the input is in {}", progress.name, end,
                      fs::absolute(kept).string());
}

}  // namespace
}  // namespace bert::fuzz

int main(int argc, char** argv) {
  return bert::run_program([&] { return bert::fuzz::replay(argc, argv); });
}
