#include "train/tasks/classification_metrics.h"

#include <cmath>

#include "runtime/error.h"

namespace bert {

Confusion::Confusion(std::span<const std::int32_t> gold, std::span<const std::int32_t> predicted,
                     std::int64_t classes)
    : classes_(classes),
      total_(static_cast<std::int64_t>(gold.size())),
      counts_(static_cast<std::size_t>(classes * classes)) {
  BERT_CHECK(gold.size() == predicted.size());
  for (std::size_t i = 0; i < gold.size(); ++i) {
    BERT_CHECK(gold[i] >= 0 && gold[i] < classes && predicted[i] >= 0 && predicted[i] < classes);
    ++counts_[static_cast<std::size_t>(gold[i] * classes + predicted[i])];
  }
}

double Confusion::gold_count(std::int64_t label) const {
  double sum = 0;
  for (std::int64_t other = 0; other < classes_; ++other) sum += count(label, other);
  return sum;
}

double Confusion::predicted_count(std::int64_t label) const {
  double sum = 0;
  for (std::int64_t other = 0; other < classes_; ++other) sum += count(other, label);
  return sum;
}

double Confusion::accuracy() const {
  double right = 0;
  for (std::int64_t label = 0; label < classes_; ++label) right += count(label, label);
  return total_ == 0 ? 0 : right / static_cast<double>(total_);
}

double Confusion::f1(std::int64_t label) const {
  const double both = gold_count(label) + predicted_count(label);
  return both == 0 ? 0 : 2 * count(label, label) / both;
}

double Confusion::macro_f1() const {
  double sum = 0, seen = 0;
  for (std::int64_t label = 0; label < classes_; ++label) {
    if (gold_count(label) + predicted_count(label) == 0) continue;
    sum += f1(label);
    seen += 1;
  }
  return seen == 0 ? 0 : sum / seen;
}

double Confusion::matthews() const {
  const double total = static_cast<double>(total_);
  double right = 0, products = 0, gold_squares = 0, predicted_squares = 0;
  for (std::int64_t label = 0; label < classes_; ++label) {
    const double gold = gold_count(label), predicted = predicted_count(label);
    right += count(label, label);
    products += gold * predicted;
    gold_squares += gold * gold;
    predicted_squares += predicted * predicted;
  }
  const double variances = (total * total - gold_squares) * (total * total - predicted_squares);
  return variances == 0 ? 0 : (right * total - products) / std::sqrt(variances);
}

}  // namespace bert
