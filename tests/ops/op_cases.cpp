#include "tests/ops/op_cases.h"

#include <iterator>

namespace bert::test {

const std::vector<OpCase>& all_op_cases() {
  static const std::vector<OpCase> all = [] {
    std::vector<OpCase> cases;
    for (auto make : {embeddings_cases, layer_norm_cases, bias_dropout_residual_layer_norm_cases,
                      linear_cases, attention_cases, rows_cases, cross_entropy_cases,
                      squared_error_cases, span_cross_entropy_cases}) {
      std::vector<OpCase> some = make();
      std::move(some.begin(), some.end(), std::back_inserter(cases));
    }
    return cases;
  }();
  return all;
}

}  // namespace bert::test
