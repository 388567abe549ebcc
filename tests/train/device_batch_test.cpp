// The sizes of micro-batches: how they are rounded, and that they change nothing but the work.
#include "train/step/device_batch.h"

#include <cstring>

#include <gtest/gtest.h>

#include "model/bert_for_pretraining.h"
#include "runtime/tensor_copy.h"
#include "train/step/backend.h"

namespace bert {
namespace {

// Sequences of so many tokens, each with every seventh of them masked.
Batch batch_of(const std::vector<std::int64_t>& lengths, std::int32_t vocab_size) {
  Batch batch;
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    const auto first = static_cast<std::int32_t>(batch.num_tokens());
    std::vector<std::int32_t> ids;
    for (std::int64_t i = 0; i < lengths[b]; ++i) {
      ids.push_back(static_cast<std::int32_t>(5 * i + 3 * static_cast<std::int64_t>(b) + 1) %
                    vocab_size);
      if (i % 7 != 3) continue;
      batch.masked_rows.push_back(first + static_cast<std::int32_t>(i));
      batch.masked_targets.push_back((ids.back() + 1) % vocab_size);
    }
    append_sequence(batch, ids, std::vector<std::int32_t>(ids.size()),
                    static_cast<std::uint32_t>(b));
  }
  return batch;
}

TEST(FittingCapacity, RoundsUpALittle) {
  const Capacity most{.tokens = 32768, .sequences = 300, .masked = 5000, .max_seqlen = 512};
  struct Case {
    std::int64_t sequences, length, tokens, rounded_sequences, masked, longest;
  };
  for (const Case& c :
       {Case{1, 7, 64, 8, 64, 64}, Case{8, 8, 64, 8, 64, 64}, Case{9, 8, 128, 16, 64, 64},
        Case{16, 65, 1088, 16, 192, 128}, Case{256, 105, 27648, 256, 3840, 128},
        Case{40, 512, 20480, 64, 2944, 512}, Case{300, 109, 32768, 300, 4864, 128}}) {
    const Batch batch =
        batch_of(std::vector<std::int64_t>(static_cast<std::size_t>(c.sequences), c.length), 100);
    const Capacity size = fitting_capacity(most, batch);
    EXPECT_EQ(size.tokens, c.tokens) << c.sequences << " of " << c.length;
    EXPECT_EQ(size.sequences, c.rounded_sequences) << c.sequences << " of " << c.length;
    EXPECT_EQ(size.masked, c.masked) << c.sequences << " of " << c.length;
    EXPECT_EQ(size.max_seqlen, c.longest) << c.sequences << " of " << c.length;
    EXPECT_GE(size.tokens, batch.num_tokens());
    EXPECT_GE(size.masked, batch.num_masked());
  }
  // Never more than there is.
  const Capacity small{.tokens = 20, .sequences = 2, .masked = 1, .max_seqlen = 12};
  EXPECT_EQ(fitting_capacity(small, batch_of({3, 2}, 100)), small);
}

TEST(FirstSequences, AreAsManyAsFit) {
  const Batch batch = batch_of({10, 4, 20}, 100);
  ASSERT_EQ(batch.masked_rows, (std::vector<std::int32_t>{3, 13, 17, 24, 31}));
  const auto lengths = [&](std::int64_t tokens, std::int64_t masked) {
    const Batch first = first_sequences(batch, tokens, masked);
    EXPECT_EQ(first.masked_rows.size(), first.masked_targets.size());
    for (const std::int32_t row : first.masked_rows) EXPECT_LT(row, first.num_tokens());
    return std::pair(first.cu_seqlens, first.num_masked());
  };
  using Bounds = std::vector<std::int32_t>;
  EXPECT_EQ(lengths(34, 5), std::pair(Bounds({0, 10, 14, 34}), std::int64_t{5}));
  EXPECT_EQ(lengths(33, 5), std::pair(Bounds({0, 10, 14}), std::int64_t{2}));
  EXPECT_EQ(lengths(34, 4), std::pair(Bounds({0, 10, 14}), std::int64_t{2}));
  EXPECT_EQ(lengths(13, 5), std::pair(Bounds({0, 10}), std::int64_t{1}));
  // The first is cut rather than left out.
  EXPECT_EQ(lengths(9, 5), std::pair(Bounds({0, 9}), std::int64_t{1}));
  EXPECT_EQ(lengths(3, 5), std::pair(Bounds({0, 3}), std::int64_t{0}));
  EXPECT_EQ(lengths(34, 0), std::pair(Bounds({0, 10}), std::int64_t{0}));
}

class DeviceBatchTest : public testing::Test {
 protected:
  DeviceBatchTest() {
    config_.vocab_size = 50;
    config_.hidden_size = 16;
    config_.num_hidden_layers = 2;
    config_.num_attention_heads = 2;
    config_.intermediate_size = 24;
    config_.max_position_embeddings = 64;
    model_ = std::make_unique<BertForPretraining>(config_, BertForPretraining::Heads::mlm);
    model_->allocate(*backend_.device, *backend_.ops, kMost, true);
    model_->parameters().initialize(config_, 3);
    memory_ = std::make_unique<DeviceBatch>(*backend_.device, *backend_.ops, kMost, *model_);
  }
  struct Outcome {
    double loss = 0.0;
    std::vector<double> gradients;
    bool operator==(const Outcome&) const = default;
  };
  // What a micro-batch of that size gives, with dropout on.
  Outcome compute(const Batch& batch, const Capacity& size) {
    const ModelInput& input = memory_->upload(batch, size);
    EXPECT_EQ(input.input_ids.numel(), size.tokens);
    EXPECT_EQ(input.masked_rows.numel(), size.masked);
    ModelLoss loss;
    loss.main_scale = 0.125;
    const DropoutKey key{.seed = 5, .step = 2};
    backend_.ops->zero(model_->parameters().gradients());
    model_->forward(input, &key);
    EXPECT_EQ(model_->hidden().rows(), size.tokens);
    model_->loss(input, &loss, true);
    model_->backward(input);
    return {loss.main.loss, copy_to_doubles(*backend_.device, model_->parameters().gradients())};
  }

  static constexpr Capacity kMost{.tokens = 400, .sequences = 9, .masked = 70, .max_seqlen = 64};
  Backend backend_ = make_backend(Precision::fp64);
  BertConfig config_;
  std::unique_ptr<BertForPretraining> model_;
  std::unique_ptr<DeviceBatch> memory_;
};

// Larger, smaller, larger again: the memory is laid out anew each time.
TEST_F(DeviceBatchTest, SizesGiveTheSameBits) {
  const Batch large = batch_of({64, 50, 64, 3, 64, 64}, 50), small = batch_of({30, 1, 12}, 50);
  const Outcome of_large = compute(large, kMost), of_small = compute(small, kMost);
  EXPECT_GT(of_large.loss, 0.0);
  EXPECT_NE(of_large.gradients, of_small.gradients);
  const std::size_t bytes = model_->activation_bytes();
  for (int round = 0; round < 2; ++round) {
    EXPECT_TRUE(compute(small, fitting_capacity(kMost, small)) == of_small);
    EXPECT_TRUE(compute(large, fitting_capacity(kMost, large)) == of_large);
    EXPECT_TRUE(compute(small, kMost) == of_small);
  }
  EXPECT_EQ(model_->activation_bytes(), bytes);
}

TEST_F(DeviceBatchTest, SizesAreNumberedAndKeepTheirAddresses) {
  const Batch large = batch_of({64, 50, 64}, 50), small = batch_of({30, 1, 12}, 50);
  // On a CPU there is one size.
  const void* const ids = memory_->upload(large).input_ids.raw();
  EXPECT_EQ(memory_->layout(), 0);
  EXPECT_EQ(memory_->upload(small).input_ids.raw(), ids);
  EXPECT_EQ(memory_->layout(), 0);
  EXPECT_EQ(memory_->capacity(), kMost);

  const Capacity fitting = fitting_capacity(kMost, small);
  const void* const rows = memory_->upload(small, fitting).masked_rows.raw();
  EXPECT_EQ(memory_->layout(), 1);
  EXPECT_NE(memory_->upload(small, kMost).masked_rows.raw(), rows);
  EXPECT_EQ(memory_->layout(), 0);
  EXPECT_EQ(memory_->upload(small, fitting).masked_rows.raw(), rows);
  EXPECT_EQ(memory_->layout(), 1);
}

TEST_F(DeviceBatchTest, WhatDoesNotFitIsRefused) {
  EXPECT_THROW(memory_->upload(batch_of({65}, 50)), std::exception);  // longer than max_seqlen
  const Batch batch = batch_of({30, 12}, 50);
  Capacity size = fitting_capacity(kMost, batch);
  size.tokens = 41;
  EXPECT_THROW(memory_->upload(batch, size), std::exception);
}

}  // namespace
}  // namespace bert
