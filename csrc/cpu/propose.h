// Proposals q(z | x_o, m) of rows in evaluation mode, and what the collective network adds to the data decoder's first
// layer.
#pragma once

#include <functional>
#include <vector>

#include "cpu/folded_mlp.h"
#include "cpu/training_kernels.h"

namespace vsae {

struct Propose {
    const TrainingKernels& kernels;
    long n_rows;
    int n_proposals;  // P, one per noise fill
    int latent_per_attribute;
    const std::vector<int>& attribute_start;
    const float* x;                       // [N, D], not read where unobserved
    const float* mask;                    // [N, M], 1 = observed
    const float* fill;                    // [P, D] in the holes, or null for zeros
    const std::vector<FoldedMlp>& own;    // of each attribute, from its columns to mean and log-variance
    const FoldedMlp& body;                // of the collective network, from the filled row to its last hidden vector
    const FoldedMlp& head;                // from there to means and log-variances
    const FoldedMlp* context_projection;  // from there to the data decoder's first layer, or null
};

// mean and scale are [N, P, L], context [N, P, C]. Every row is computed alone and in one order. The calling thread
// asks `poll` from time to time whether to go on; returns false where it said no, with rows left undone.
bool propose(const Propose& op, float* mean, float* scale, float* context, int n_threads,
             const std::function<bool()>& poll);

}  // namespace vsae
