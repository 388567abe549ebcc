// What becomes of work when the system has hardly any threads to give.
#pragma once

#include <cstdio>
#include <fstream>

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/error.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BERT_LIMITS_OF_MEMORY 0  // sanitizers need more of it than can be foreseen
#else
#define BERT_LIMITS_OF_MEMORY 1
#endif

namespace bert {

// Expects `action` to be a RuntimeError where one thread more can be started and no second: there
// is room for one stack. In a process of its own, which is killed if it does not end.
template <typename Action>
void expect_refused_with_one_thread(Action action) {
  if (!BERT_LIMITS_OF_MEMORY) GTEST_SKIP() << "not with sanitizers";
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::alarm(20);
    constexpr std::size_t kStack = std::size_t{1} << 30;
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, kStack);
    ::pthread_setattr_default_np(&attributes);
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t limit = pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + kStack * 3 / 2;
    const rlimit memory{limit, limit};
    ::setrlimit(RLIMIT_AS, &memory);
    try {
      action();
    } catch (const RuntimeError& error) {
      const bool said = std::string(error.what()).starts_with("cannot start a thread");
      if (!said) std::fprintf(stderr, "%s\n", error.what());
      ::_exit(said ? 0 : 2);
    }
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "ended by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace bert
