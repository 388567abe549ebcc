// What reaches the user of a program when something is wrong: one line and an exit code.
#include "runtime/error.h"

#include <csignal>
#include <cstdio>
#include <functional>
#include <iostream>
#include <stdexcept>

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/program.h"

namespace bert {
namespace {

// What run_program prints and returns around `body`.
std::pair<int, std::string> outcome(const std::function<int()>& body) {
  testing::internal::CaptureStderr();
  const int exit_code = run_program(body);
  return {exit_code, testing::internal::GetCapturedStderr()};
}

TEST(RunProgram, ExitCodes) {
  EXPECT_EQ(outcome([] { return 0; }), std::make_pair(0, std::string()));
  EXPECT_EQ(outcome([] { return 5; }), std::make_pair(5, std::string()));
  EXPECT_EQ(outcome([]() -> int { throw_input_error("{} is not {}", "this", 3); }),
            std::make_pair(2, std::string("error: this is not 3\n")));
  EXPECT_EQ(outcome([]() -> int { throw_runtime_error("disk {}", "full"); }),
            std::make_pair(1, std::string("error: disk full\n")));
  EXPECT_EQ(outcome([]() -> int { throw std::logic_error("odd"); }),
            std::make_pair(1, std::string("error: odd\n")));
}

// The exit code of a process that calls `body`; -1 where a signal ends it.
int exit_code_of(const std::function<int()>& body) {
  const auto child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// A file at the limit of its size is an error of write(), not a signal that ends the program.
TEST(RunProgram, ALimitOfFileSizes) {
  EXPECT_EQ(exit_code_of([] {
              std::signal(SIGXFSZ, SIG_DFL);
              const rlimit limit{.rlim_cur = 100, .rlim_max = 100};
              ::setrlimit(RLIMIT_FSIZE, &limit);
              const std::string path = testing::TempDir() + "limited";
              return run_program([&] {
                write_file_atomic(path, std::string(1000, 'x'));
                return 0;
              });
            }),
            1);
}

TEST(RunProgram, StandardOutputThatTakesNothing) {
  for (const bool by_stream : {true, false}) {
    for (const std::size_t size : {10, 100'000}) {
      EXPECT_EQ(exit_code_of([&] {
                  if (std::freopen("/dev/full", "w", stdout) == nullptr) return 9;
                  return run_program([&] {
                    const std::string text(size, 'x');
                    if (by_stream) {
                      std::cout << text;
                    } else {
                      std::fputs(text.c_str(), stdout);
                    }
                    return 0;
                  });
                }),
                1)
          << by_stream << size;
    }
  }
}

TEST(RunProgram, Version) {
  const std::string version = version_string();
  EXPECT_TRUE(version.starts_with("bert.cu ")) << version;
  EXPECT_NE(version.find("commit"), std::string::npos) << version;
}

TEST(Check, SaysWhatAndWhere) {
  const int rows = 3;
  EXPECT_NO_THROW(BERT_CHECK(rows == 3, "never {}", rows));
  try {
    BERT_CHECK(rows == 4, "{} rows", rows);
    FAIL();
  } catch (const RuntimeError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("error_test.cpp:"), std::string::npos) << text;
    EXPECT_NE(text.find("rows == 4: 3 rows"), std::string::npos) << text;
    EXPECT_EQ(error.exit_code(), 1);
  }
  EXPECT_THROW(BERT_CHECK(rows < 0), RuntimeError);
}

}  // namespace
}  // namespace bert
