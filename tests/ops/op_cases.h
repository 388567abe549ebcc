// Every op's test cases; one file per op declares them.
#pragma once

#include <vector>

#include "tests/support/op_case.h"

namespace bert::test {

std::vector<OpCase> embeddings_cases();
std::vector<OpCase> layer_norm_cases();
std::vector<OpCase> bias_dropout_residual_layer_norm_cases();
std::vector<OpCase> linear_cases();
std::vector<OpCase> attention_cases();
std::vector<OpCase> rows_cases();
std::vector<OpCase> cross_entropy_cases();
std::vector<OpCase> squared_error_cases();
std::vector<OpCase> span_cross_entropy_cases();

const std::vector<OpCase>& all_op_cases();

}  // namespace bert::test
