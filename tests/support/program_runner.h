// Starting the built programs as a user does, and looking at what they answer.
#pragma once

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>
#include <sys/wait.h>

namespace bert {

struct Answer {
  int exit_code = -1;  // -1: ended by a signal
  std::string output;  // standard output and standard error
};

// Runs a command line of the shell to its end.
inline Answer run(const std::string& command) {
  Answer answer;
  std::FILE* pipe = ::popen(("(" + command + ") 2>&1 </dev/null").c_str(), "r");
  if (pipe == nullptr) return answer;
  char buffer[4096];
  while (const std::size_t got = std::fread(buffer, 1, sizeof buffer, pipe)) {
    answer.output.append(buffer, got);
  }
  const int status = ::pclose(pipe);
  answer.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return answer;
}

// Whether `program` can be started by mpirun: that is installed, and so was MPI when it was built.
inline bool runs_under_mpirun(const std::filesystem::path& program) {
  return run("command -v mpirun").exit_code == 0 &&
         std::filesystem::exists(program.parent_path() / "bert_mpi_communicator.so");
}

// "mpirun -np RANKS " for a command line. What OpenMPI itself never frees is not looked for.
inline std::string mpirun(int ranks) {
  return "ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0 timeout 120 mpirun --allow-run-as-root "
         "--oversubscribe --bind-to none -np " +
         std::to_string(ranks) + " ";
}

// One line beginning with "error:" that holds `part`, exit code 2.
inline void expect_refused(const Answer& answer, const std::string& part) {
  EXPECT_EQ(answer.exit_code, 2) << answer.output;
  EXPECT_TRUE(answer.output.starts_with("error: ")) << answer.output;
  EXPECT_EQ(std::count(answer.output.begin(), answer.output.end(), '\n'), 1) << answer.output;
  EXPECT_NE(answer.output.find(part), std::string::npos) << answer.output << "lacks " << part;
}

}  // namespace bert
