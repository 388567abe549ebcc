# The sources of the CUDA backend that are compiled twice: by nvcc and for the SIMT harness.
set(BERT_CUDA_SOURCES
  attention.cu
  attention_general.cu
  attention_mma_backward.cu
  attention_mma_backward_resident.cu
  attention_mma_forward.cu
  bfloat16_copy.cu
  bias_dropout_residual_layer_norm.cu
  cross_entropy.cu
  cuda_ops.cpp
  embeddings.cu
  fixed_point.cu
  float8.cu
  layer_norm.cu
  linear.cu
  loss_sums.cu
  optimizer.cu
  rows.cu
  span_cross_entropy.cu
  squared_error.cu)
# And those of Hopper's warpgroups, which only nvcc compiles: for other architectures they are empty.
set(BERT_WARPGROUP_SOURCES
  attention_warpgroup_backward.cu
  attention_warpgroup_backward_resident.cu
  attention_warpgroup_forward.cu
  warpgroup.cu)
