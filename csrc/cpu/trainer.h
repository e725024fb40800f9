// A VSAE, or a model that it is compared with, with its gradients, optimiser state and work memory: one call is one
// training step.
//
// The arithmetic is that of vsae_fast/models and vsae_fast/objective.py, which tests hold it to; only the order of sums
// differs. Everything is single precision.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/cpu_level.h"

namespace vsae {

struct AttributeGroup {
    int kind;
    int width;
    std::vector<int> attributes;
};

struct NetworkShape {
    std::vector<int> attribute_start;
    std::vector<int> attribute_kind;
    std::vector<AttributeGroup> groups;
    int latent_per_attribute;
    std::vector<int> numerical_hidden, categorical_hidden, collective_hidden, mask_hidden, data_hidden;
    // A VSAE has an encoder for each attribute and a decoder of the mask; models of one network have neither.
    bool selective;
    bool deterministic;       // an autoencoder: z is the proposal's mean, and there is no divergence
    bool sees_mask;           // the collective network
    bool experts;             // an MVAE: attributes' encoders propose all latents, and there is no collective network
    bool skip, mask_context;  // what the data decoder's context is made of: its last hidden vector, or the mask
    bool linear_tail, noise_fill;
    float min_scale, negative_slope;
};

struct OptimiserSettings {
    float learning_rate;
    float weight_decay;
    float clip_norm;  // 0: none
};

// vsae_fast.objective.TwoPhase, or its first phase alone, where n_samples is 0, else HideAndScore; of experts
// Subsampled.
struct ObjectiveSettings {
    int n_samples;         // importance samples of hide-and-score
    float visible_weight;  // of cells that the encoders see
    float hidden_low, hidden_high;
    int n_unobserved_samples;  // of z, in phase 2's first pass
    int n_validation_draws;
    int n_subsets;  // random ones of Subsampled
};

// Encoded rows: x is [N, D], mask [N, M], both contiguous.
struct Rows {
    const float* x;
    const float* mask;
    const std::int64_t* index;  // rows to take, or null for the first n
    int n;
};

// How far training has come: steps, and the number of the next stream of random numbers.
struct Progress {
    long steps;
    std::uint64_t next_stream;
};

class Network;

class Trainer {
   public:
    Trainer(const NetworkShape& shape, const ObjectiveSettings& objective, int max_rows, std::uint64_t seed,
            CpuLevel level);
    ~Trainer();

    // Addresses of the torch tensors of vsae_fast.native_training.parameters, in its order.
    void import_parameters(const std::vector<const float*>& tensors);
    void export_parameters(const std::vector<float*>& tensors) const;

    // All that training goes on from, as state_size() floats and its progress; another trainer of this shape may take
    // it.
    long state_size() const;
    Progress export_state(float* state) const;
    void import_state(const float* state, const Progress& progress);

    // One update; returns the loss before it. `second_phase` counts for TwoPhase only.
    double step(const Rows& rows, bool second_phase, const OptimiserSettings& settings, int n_threads);

    // Adds the validation score of each row to `score`; noise from the streams (seed, 0), (seed, 1), ...
    void score(const Rows& rows, std::uint64_t seed, double* score);

   private:
    std::unique_ptr<Network> network_;
};

}  // namespace vsae
