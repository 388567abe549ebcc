// use_library FOLDER TEXT...: what the model in FOLDER has to say of each TEXT. Of a model that
// answers questions the first TEXT is a question and the others are where answers may stand.
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include <bert/bert.h>

namespace {

void show_vectors(bert::Pipeline& pipeline, const std::vector<std::string>& texts) {
  const auto vectors = pipeline.encode(texts);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    std::cout << texts[i] << ":";
    for (const float value : vectors[i]) std::cout << ' ' << value;
    std::cout << '\n';
  }
}

void show_answers(bert::Pipeline& pipeline, const std::string& task,
                  const std::vector<std::string>& texts) {
  if (task == "masked_tokens") {
    for (const std::string& text : texts) {
      for (const auto& mask : pipeline.fill_mask(text, 2)) {
        for (const auto& filling : mask) {
          std::cout << filling.token << ' ' << filling.probability << '\n';
        }
      }
    }
  } else if (task == "classification") {
    for (const auto& found : pipeline.classify(texts)) {
      std::cout << found.label;
      for (const auto& [label, probability] : found.probabilities) {
        std::cout << ' ' << label << '=' << probability;
      }
      std::cout << '\n';
    }
  } else if (task == "regression") {
    for (const double number : pipeline.rate(texts)) std::cout << number << '\n';
  } else if (task == "token_classification") {
    for (const std::string& text : texts) {
      for (const auto& word : pipeline.tag(text)) std::cout << word.word << '/' << word.tag << ' ';
      std::cout << '\n';
    }
  } else if (task == "question_answering") {
    for (std::size_t i = 1; i < texts.size(); ++i) {
      const bert::Pipeline::Answer best = pipeline.answer(texts[0], texts[i]).front();
      std::cout << best.text << ' ' << best.begin << ' ' << best.end << '\n';
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: use_library FOLDER TEXT...\n";
    return 2;
  }
  try {
    bert::Pipeline pipeline(argv[1]);
    const std::vector<std::string> texts(argv + 2, argv + argc);
    std::cout.precision(9);
    std::cout << pipeline.task() << '\n';
    show_vectors(pipeline, texts);
    show_answers(pipeline, pipeline.task(), texts);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
}
