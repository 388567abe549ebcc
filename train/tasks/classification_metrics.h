// How well classes were predicted, as GLUE counts (scikit-learn's formulas). All are functions of
// the confusion matrix.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bert {

class Confusion {
 public:
  // Both hold classes 0 .. classes - 1, one of each example.
  Confusion(std::span<const std::int32_t> gold, std::span<const std::int32_t> predicted,
            std::int64_t classes);

  double accuracy() const;
  // 2 tp / (2 tp + fp + fn) of one class; 0 where it is neither there nor predicted.
  double f1(std::int64_t label) const;
  // Mean over the classes that are there or were predicted, as of scikit-learn's f1_score without
  // a list of labels.
  double macro_f1() const;
  // Matthews' correlation; of more than two classes Gorodkin's R_K. 0 where it is 0 / 0.
  double matthews() const;

 private:
  double count(std::int64_t gold, std::int64_t predicted) const {
    return static_cast<double>(counts_[static_cast<std::size_t>(gold * classes_ + predicted)]);
  }
  double gold_count(std::int64_t label) const;
  double predicted_count(std::int64_t label) const;

  std::int64_t classes_, total_;
  std::vector<std::int64_t> counts_;  // [gold, predicted]
};

}  // namespace bert
