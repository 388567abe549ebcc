#include "runtime/program.h"

#include <csignal>
#include <cstdio>
#include <exception>

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
    return body();
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}

}  // namespace bert
