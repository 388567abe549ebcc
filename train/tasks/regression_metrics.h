// How well numbers were predicted, as GLUE counts (STS-B; scipy's pearsonr and spearmanr).
#pragma once

#include <span>
#include <vector>

namespace bert {

// Both are 0 where one side is constant or there are fewer than two numbers: nothing correlates.
double pearson(std::span<const double> x, std::span<const double> y);
// Pearson's of the ranks.
double spearman(std::span<const double> x, std::span<const double> y);

double mean_squared_error(std::span<const double> x, std::span<const double> y);

// From 1; equal values share the mean of their ranks.
std::vector<double> average_ranks(std::span<const double> values);

}  // namespace bert
