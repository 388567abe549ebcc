#include "tests/support/grad_check.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/error.h"
#include "runtime/file.h"
#include "tests/support/random_inputs.h"

namespace bert::test {
namespace {

// Gathers the rows of all checks of a program, prints and writes them when it ends.
class Table : public ::testing::Environment {
 public:
  void add(GradCheckRow row) { rows_.push_back(std::move(row)); }

  void TearDown() override {
    if (rows_.empty()) return;
    const std::string text = format();
    std::fputs(text.c_str(), stdout);
    std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe");
    path += ".gradcheck.txt";
    write_file_atomic(path, text);
    std::printf("(also in %s)\n", path.c_str());
  }

 private:
  std::string format() const {
    std::size_t subject = 7, tensor = 6;
    for (const GradCheckRow& row : rows_) {
      subject = std::max(subject, row.subject.size());
      tensor = std::max(tensor, row.tensor.size());
    }
    std::string text = fmt::format(
        "\nAnalytic gradients against finite differences, f64\n{:<{}}  {:<{}}  {:>15}  {:>11}\n",
        "subject", subject, "tensor", tensor, "checked of", "worst error");
    double worst = 0.0;
    for (const GradCheckRow& row : rows_) {
      text += fmt::format("{:<{}}  {:<{}}  {:>6} {:>8}  {:>11.2e}{}\n", row.subject, subject,
                          row.tensor, tensor, row.checked, row.elements, row.worst_error,
                          row.passed ? "" : "  FAILED");
      worst = std::max(worst, row.worst_error);
    }
    return text + fmt::format("{} tensors, worst error {:.2e}\n", rows_.size(), worst);
  }

  std::vector<GradCheckRow> rows_;
};

Table& table() {
  // gtest owns environments.
  static Table* const instance =
      static_cast<Table*>(::testing::AddGlobalTestEnvironment(new Table));
  return *instance;
}

// Registered before main, so that gtest knows it when the tests begin.
[[maybe_unused]] const Table& registered = table();

}  // namespace

GradCheck::GradCheck(std::string subject, std::function<double()> loss, GradCheckOptions options)
    : subject_(std::move(subject)),
      loss_(std::move(loss)),
      options_(options),
      loss_at_start_(loss_()) {
  BERT_CHECK(std::isfinite(loss_at_start_), "{}: the loss is {}", subject_, loss_at_start_);
}

double GradCheck::numeric_gradient(double& value, double h) const {
  const double original = value;
  const auto loss_at = [&](double offset) {
    value = original + offset;
    return loss_();
  };
  const double gradient =
      (loss_at(-2 * h) - 8 * loss_at(-h) + 8 * loss_at(h) - loss_at(2 * h)) / (12 * h);
  value = original;
  return gradient;
}

GradCheckRow GradCheck::tensor(const std::string& name, std::span<double> values,
                               std::span<const double> analytic,
                               std::span<const std::int64_t> candidates) {
  BERT_CHECK(values.size() == analytic.size(), "{} {}: {} values, {} gradients", subject_, name,
             values.size(), analytic.size());
  std::vector<std::int64_t> elements(candidates.begin(), candidates.end());
  if (elements.empty()) {
    elements.resize(values.size());
    std::iota(elements.begin(), elements.end(), std::int64_t{0});
  }
  GradCheckRow row{.subject = subject_, .tensor = name};
  row.elements = static_cast<std::int64_t>(elements.size());
  row.checked = std::min(row.elements, options_.max_elements);
  for (const double gradient : analytic) {
    row.largest = std::max(row.largest, std::abs(gradient));
    if (!std::isfinite(gradient)) row.passed = false;
  }
  const std::vector<double> sample = random_distinct(subject_ + name, row.checked, row.elements);
  for (const double position : sample) {
    const std::int64_t index = elements[static_cast<std::size_t>(position)];
    const double a = analytic[static_cast<std::size_t>(index)];
    double n = 0.0, error = 0.0;
    for (const double step : {options_.step, 4 * options_.step, 16 * options_.step}) {
      const double numeric = numeric_gradient(values[static_cast<std::size_t>(index)], step);
      const double size = std::max(
          {std::abs(a), std::abs(numeric), 1e-3 * row.largest, 1e-6 * std::abs(loss_at_start_)});
      // No size at all: the loss and every gradient are zero, and so must be the difference.
      const double at_step = size > 0.0 ? std::abs(a - numeric) / size : 0.0;
      if (step == options_.step || at_step < error) {
        n = numeric;
        error = at_step;
      }
      if (error <= options_.tolerance) break;
    }
    if (!(error <= row.worst_error)) {  // NaN is the worst of all
      row.worst_error = error;
      row.worst_index = index;
      row.analytic = a;
      row.numeric = n;
    }
  }
  row.passed = row.passed && row.worst_error <= options_.tolerance;
  rows_.push_back(row);
  if (recorded_) table().add(row);
  return row;
}

bool GradCheck::passed() const {
  return std::all_of(rows_.begin(), rows_.end(), [](const GradCheckRow& r) { return r.passed; });
}

std::string GradCheck::failures() const {
  std::string text;
  for (const GradCheckRow& row : rows_) {
    if (row.passed) continue;
    text += fmt::format(
        "{}: gradient of {}: element {}: analytic {:.12g}, numeric {:.12g}, error {:.3g}\n",
        row.subject, row.tensor, row.worst_index, row.analytic, row.numeric, row.worst_error);
  }
  return text;
}

}  // namespace bert::test
