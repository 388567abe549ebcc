#include "runtime/program.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>

#include "runtime/error.h"
#include "runtime/version.h"

namespace bert {

std::string version_string() {
  return fmt::format("bert.cu {} (commit {}, {}, {})", BERT_VERSION, BERT_COMMIT, BERT_COMPILER,
                     BERT_BUILD_OPTIONS);
}

int run_program(const std::function<int()>& body) {
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    const int code = body();
    errno = 0;
    std::cout.flush();
    if (std::fflush(stdout) != 0 || !std::cout || std::ferror(stdout) != 0) {
      throw_runtime_error("cannot write to standard output: {}",
                          errno != 0 ? std::strerror(errno) : "an earlier write failed");
    }
    return code;
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}

}  // namespace bert
