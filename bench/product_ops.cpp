#include "bench/product_ops.h"

#include "train/profile/op_work.h"

namespace bert::bench {

void ProductOps::watch_anew() {
  clear();
  forward_products_.clear();
  backward_products_.clear();
  watch();
}

void ProductOps::linear_forward(const LinearForward& op) {
  TimedOps::linear_forward(op);
  if (!watching()) return;
  forward_products_.push_back({.x = op.x, .weight = op.weight, .rows = op.rows, .y = op.y});
}

void ProductOps::linear_backward(const LinearBackward& op) {
  TimedOps::linear_backward(op);
  if (!watching()) return;
  backward_products_.push_back({.dy = op.dy,
                                .x = op.x,
                                .weight = op.weight,
                                .rows = op.rows,
                                .dx = op.dx,
                                .accumulate_dx = op.accumulate_dx,
                                .dweight = op.dweight});
}

double ProductOps::product_flop() const {
  double flop = 0.0;
  for (const LinearForward& op : forward_products_) flop += work_of(op, false).flop;
  for (const LinearBackward& op : backward_products_) flop += work_of(op, false).flop;
  return flop;
}

void ProductOps::run_products() {
  for (const LinearForward& op : forward_products_) ops().linear_forward(op);
  for (const LinearBackward& op : backward_products_) ops().linear_backward(op);
}

}  // namespace bert::bench
