#include "train/tasks/task_predictions.h"

#include <algorithm>
#include <cmath>

#include "runtime/json.h"

namespace bert {

std::size_t largest(std::span<const float> values) {
  return static_cast<std::size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

std::vector<double> softmax(std::span<const double> logits) {
  std::vector<double> result(logits.begin(), logits.end());
  if (result.empty()) return result;
  const double top = *std::max_element(result.begin(), result.end());
  double sum = 0;
  for (double& value : result) sum += value = std::exp(value - top);
  for (double& value : result) value /= sum;
  return result;
}

std::vector<double> softmax(std::span<const float> logits) {
  return softmax(std::vector<double>(logits.begin(), logits.end()));
}

double rounded(double value) { return std::round(value * 1e6) / 1e6; }

void write_line(const nlohmann::ordered_json& record, std::ostream& out) {
  out << one_line(record) << '\n';
}

}  // namespace bert
