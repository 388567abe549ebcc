#include "model/bert_for_task.h"

#include <utility>

namespace bert {
namespace {

bool pools(TaskKind kind) {
  return kind == TaskKind::classification || kind == TaskKind::regression;
}

std::int64_t outputs_of(TaskKind kind, const std::vector<std::string>& labels) {
  if (kind == TaskKind::regression) return 1;
  if (kind == TaskKind::question_answering) return 2;
  return static_cast<std::int64_t>(labels.size());
}

}  // namespace

BertForTask::BertForTask(const BertConfig& config, TaskKind kind, std::vector<std::string> labels,
                         bool weighted)
    : BertModel(config, pools(kind)),
      kind_(kind),
      labels_(std::move(labels)),
      weighted_(weighted),
      head_(store_, config_, kind == TaskKind::question_answering ? "qa_outputs" : "classifier",
            outputs_of(kind, labels_)) {}

HeadDescription BertForTask::head_description() const {
  switch (kind_) {
    case TaskKind::classification:
      return {.architecture = "ForSequenceClassification", .labels = labels_};
    case TaskKind::regression:
      return {
          .architecture = "ForSequenceClassification", .labels = {"LABEL_0"}, .regression = true};
    case TaskKind::token_classification:
      return {.architecture = "ForTokenClassification", .labels = labels_};
    case TaskKind::question_answering:
      break;
  }
  return {.architecture = "ForQuestionAnswering"};
}

InputParts BertForTask::input_parts() const {
  return {.sequence_labels = kind_ == TaskKind::classification,
          .sequence_values = kind_ == TaskKind::regression,
          .answer_spans = kind_ == TaskKind::question_answering,
          .sequence_weights = weighted_ && kind_ == TaskKind::classification,
          .row_weights = weighted_ && kind_ == TaskKind::token_classification};
}

void BertForTask::plan_heads(Arena& arena, const Capacity& capacity, const Ops& ops,
                             bool with_gradients) {
  const auto take = [&](std::int64_t rows) {
    return arena.take(ops.dtype(), {rows, config_.hidden_size});
  };
  if (kind_ == TaskKind::question_answering) {
    head_.plan(arena, capacity.tokens, ops, saved_);
    return;
  }
  const std::int64_t rows = pools(kind_) ? capacity.sequences : capacity.masked;
  if (!pools(kind_)) gathered_ = take(rows);
  head_.plan(arena, rows, ops, saved_);
  if (with_gradients) dx_ = take(rows);
}

void BertForTask::dropout(const Context& context, const ModelInput& input, const Tensor& x) const {
  if (context.dropout_key == nullptr) return;
  const PackedTokens& tokens = context.tokens;
  // A sequence's [CLS] is its first token.
  context.ops->dropout_rows(
      {.x = x,
       .rows = pools(kind_) ? tokens.cu_seqlens.slice(0, x.rows()) : input.masked_rows,
       .count = pools(kind_) ? tokens.num_sequences : input.num_masked,
       .dropout = {static_cast<float>(config_.head_dropout()), kHeadDropoutSite,
                   context.dropout_key},
       .tokens = tokens});
}

void BertForTask::forward_heads(const Context& context, const ModelInput& input) {
  if (kind_ == TaskKind::question_answering) {
    head_.forward(context, hidden(), context.tokens.num_tokens, saved_);
  } else if (pools(kind_)) {
    const Tensor x = pool(context);
    dropout(context, input, x);
    head_.forward(context, x, context.tokens.num_sequences, saved_);
  } else {
    context.ops->gather_rows(
        {.x = hidden(), .rows = input.masked_rows, .count = input.num_masked, .y = gathered_});
    dropout(context, input, gathered_);
    head_.forward(context, gathered_, input.num_masked, saved_);
  }
}

void BertForTask::loss(const ModelInput& input, ModelLoss* loss, bool with_gradients,
                       double loss_unit) {
  const double* const scale = with_gradients ? &loss->main_scale : nullptr;
  switch (kind_) {
    case TaskKind::classification:
    case TaskKind::token_classification:
      ops().cross_entropy({.logits = saved_.logits,
                           .classes = num_outputs(),
                           .targets = pools(kind_) ? input.sequence_labels : input.masked_targets,
                           .weights = input.loss_weights,
                           .rows = pools(kind_) ? input.tokens.num_sequences : input.num_masked,
                           .loss_scale = scale,
                           .sums = &loss->main,
                           .loss_unit = loss_unit});
      return;
    case TaskKind::regression:
      ops().squared_error({.predictions = saved_.logits,
                           .targets = input.sequence_values,
                           .rows = input.tokens.num_sequences,
                           .loss_scale = scale,
                           .sums = &loss->main,
                           .loss_unit = loss_unit});
      return;
    case TaskKind::question_answering:
      ops().span_cross_entropy({.logits = saved_.logits,
                                .tokens = input.tokens,
                                .targets = input.answer_spans,
                                .loss_scale = scale,
                                .sums = &loss->main,
                                .loss_unit = loss_unit});
      return;
  }
}

void BertForTask::backward_heads(const Context& context, const ModelInput& input,
                                 const Tensor& d_hidden) {
  if (kind_ == TaskKind::question_answering) {
    head_.backward(context, context.tokens.num_tokens, saved_, d_hidden);
  } else if (pools(kind_)) {
    head_.backward(context, context.tokens.num_sequences, saved_, dx_);
    dropout(context, input, dx_);
    pool_backward(context, dx_, d_hidden);
  } else {
    head_.backward(context, input.num_masked, saved_, dx_);
    dropout(context, input, dx_);
    context.ops->scatter_add_rows(
        {.y = dx_, .rows = input.masked_rows, .count = input.num_masked, .x = d_hidden});
  }
}

}  // namespace bert
