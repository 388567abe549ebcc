// Analytic gradients against finite differences: for an op, a layer or a whole model.
//
// The five-point stencil (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12h has an error of h^4 f'''''/ 30
// and one of rounding, about 1e-16 |f| times the depth of the computation / h. At h = 1e-3 both are
// small enough for a bound of 1e-7, which tells a wrong formula from a right one. Where rounding is
// the larger (a deep model, a gradient that is nearly zero), 4 h and 16 h are tried too and the
// nearest counts: a wrong gradient is far from all three.
//
//   GradCheck check("encoder_layer", [&] { return loss_of_forward(); });
//   ... run forward and backward once ...
//   check.tensor("weight", weights, gradients);     // weights are changed and restored
//   EXPECT_TRUE(check.passed()) << check.failures();
//
// Every result goes into a table which the test program prints when it ends, and writes to
// <program>.gradcheck.txt beside itself.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace bert::test {

struct GradCheckOptions {
  double step = 1e-3;
  double tolerance = 1e-7;
  std::int64_t max_elements = 64;  // of a tensor; where there are more, that many are sampled
};

// The worst element of a tensor. error = |analytic - numeric| / max(|analytic|, |numeric|,
// 1e-3 * largest |analytic| of the tensor, 1e-6 * |loss|): a gradient that is zero (that of a key's
// bias) cannot be held to a relative error of itself.
struct GradCheckRow {
  std::string subject{}, tensor{};
  std::int64_t elements = 0, checked = 0;
  double worst_error = 0.0;
  std::int64_t worst_index = -1;
  double analytic = 0.0, numeric = 0.0;
  double largest = 0.0;  // |analytic| over the whole tensor
  bool passed = true;
};

class GradCheck {
 public:
  // `loss` computes the loss from the values as they are now, in f64, without changing them; twice
  // the same values give twice the same bits. `subject` heads the rows of the table.
  GradCheck(std::string subject, std::function<double()> loss, GradCheckOptions options = {});

  // `values`: a tensor the loss depends on, in f64 host memory, where `loss` reads it: elements are
  // moved and put back. `analytic`: d loss / d values. `candidates`: the elements that may be
  // checked; empty for all.
  GradCheckRow tensor(const std::string& name, std::span<double> values,
                      std::span<const double> analytic,
                      std::span<const std::int64_t> candidates = {});

  bool passed() const;
  std::string failures() const;  // one line per failed tensor
  const std::vector<GradCheckRow>& rows() const { return rows_; }

  // Keeps the rows of this check out of the printed table (a check that is meant to fail).
  void set_recorded(bool recorded) { recorded_ = recorded; }

 private:
  double numeric_gradient(double& value, double step) const;

  std::string subject_;
  std::function<double()> loss_;
  GradCheckOptions options_;
  double loss_at_start_;
  bool recorded_ = true;
  std::vector<GradCheckRow> rows_;
};

}  // namespace bert::test
