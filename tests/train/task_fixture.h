// A small tokenizer, files to read, and outputs to judge.
#pragma once

#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "data/tokenization/wordpiece_tokenizer.h"
#include "tests/data/tokenizer_fixture.h"
#include "train/tasks/task.h"

namespace bert {

class TaskTest : public ::testing::Test {
 protected:
  // Lower case; words of one letter, some of which go on: "ab" is "a", "##b".
  static const Tokenizer& tokenizer() {
    static const WordpieceTokenizer letters = [] {
      std::vector<std::string> pieces;
      for (char c = 'a'; c <= 'z'; ++c) pieces.emplace_back(1, c);
      for (char c = 'a'; c <= 'z'; ++c) pieces.push_back(std::string("##") + c);
      pieces.insert(pieces.end(), {".", ",", "\u4e2d"});
      return WordpieceTokenizer(with_special(pieces), wordpiece_options(false));
    }();
    return letters;
  }

  static std::string put(const std::string& name, std::string_view content) {
    const std::string path = ::testing::TempDir() + "/task_" + name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  // "[CLS] a ##b [SEP]"
  static std::string pieces(const TaskSequence& sequence) {
    std::string text;
    for (const std::int32_t id : sequence.input_ids) {
      if (!text.empty()) text += ' ';
      text += tokenizer().piece(id);
    }
    return text;
  }

  static std::vector<nlohmann::json> predictions(const TaskDataset& dataset,
                                                 const TaskOutputs& outputs) {
    std::stringstream written;
    dataset.write_predictions(outputs, written);
    std::vector<nlohmann::json> records;
    for (std::string line; std::getline(written, line);) {
      records.push_back(nlohmann::json::parse(line));
    }
    return records;
  }

  static double value(const std::vector<Metric>& metrics, std::string_view name) {
    for (const Metric& metric : metrics) {
      if (metric.name == name) return metric.value;
    }
    ADD_FAILURE() << "no metric " << name;
    return 0;
  }

  static std::vector<std::string> names(const std::vector<Metric>& metrics) {
    std::vector<std::string> result;
    for (const Metric& metric : metrics) result.push_back(metric.name);
    return result;
  }
};

}  // namespace bert
