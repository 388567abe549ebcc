// What the writers of predictions share.
#pragma once

#include <cstddef>
#include <ostream>
#include <span>
#include <vector>

#include <nlohmann/json.hpp>

namespace bert {

// The index of the largest; of equal ones the first. `values` is not empty.
std::size_t largest(std::span<const float> values);

std::vector<double> softmax(std::span<const float> logits);
std::vector<double> softmax(std::span<const double> logits);

// To six places behind the point: what is read by people and has no more in it.
double rounded(double value);

void write_line(const nlohmann::ordered_json& record, std::ostream& out);

}  // namespace bert
