// Which PhiloxStream of the seed belongs to which use in data: no two uses share random numbers.
#pragma once

#include <cstdint>

#include "runtime/error.h"

namespace bert {

// Index: the epoch.
inline constexpr std::uint32_t kOrderStream = 0xDA7A0001u;
// Index: sample_index(epoch, sample).
inline constexpr std::uint32_t kMaskStream = 0xDA7A0002u;
inline constexpr std::uint32_t kNextPartnerStream = 0xDA7A0004u;  // whose B, if a random one
// Index: sample_index(epoch, piece), and (epoch, group of pieces).
inline constexpr std::uint32_t kNextSplitStream = 0xDA7A0003u;  // where a piece splits into A, B
inline constexpr std::uint32_t kNextGroupStream = 0xDA7A0005u;  // which piece of three is halved
// Index: the document.
inline constexpr std::uint32_t kShortDocumentStream = 0xDA7A0006u;  // cut to short samples?

// Evaluation draws its masks as if in this epoch, so that they are the same at each evaluation.
inline constexpr std::uint64_t kEvaluationEpoch = (std::uint64_t{1} << 24) - 1;

// One number for (epoch, sample): 24 bits of epoch, 40 of sample.
inline std::uint64_t sample_index(std::uint64_t epoch, std::uint64_t sample) {
  BERT_CHECK(epoch <= kEvaluationEpoch && sample < std::uint64_t{1} << 40);
  return epoch << 40 | sample;
}

}  // namespace bert
