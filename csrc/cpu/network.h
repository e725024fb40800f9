// The network behind Trainer: parameters, work memory and the parts of a step.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "cpu/mlp.h"
#include "cpu/parameter_store.h"
#include "cpu/sample_moments.h"
#include "cpu/shared_work.h"
#include "cpu/trainer.h"

namespace vsae {

class Network {
   public:
    Network(const NetworkShape& shape, const ObjectiveSettings& objective, int max_rows, std::uint64_t seed,
            CpuLevel level);

    ParameterStore store;

    double step(const Rows& rows, bool second_phase, const OptimiserSettings& settings, int n_threads);
    void score(const Rows& rows, std::uint64_t seed, double* score);

    Progress progress() const { return {steps_, draws_.next}; }
    void go_on_from(const Progress& progress) {
        steps_ = progress.steps;
        draws_.next = progress.next_stream;
    }

   private:
    using Proposals = std::vector<AlignedBuffer>;  // of each attribute's own network: [n, 2 L], means and log-variances

    SharedWork work_;
    NetworkShape shape_;
    ObjectiveSettings objective_;
    int n_columns_, n_attributes_, n_latent_;
    int n_inputs_;  // of the collective network
    int column_stride_, attribute_stride_, latent_stride_, z_stride_;
    int column_noise_, attribute_noise_, latent_noise_;  // strides of random numbers
    int max_rows_, max_samples_;
    long steps_ = 0;
    Draws draws_;

    std::vector<Mlp> attributive_;          // one per attribute, in order; none where the model is not selective
    std::vector<AlignedBuffer> own_input_;  // of each attribute's network
    std::unique_ptr<Mlp> collective_, head_, data_decoder_;
    std::unique_ptr<Mlp> mask_decoder_;  // or null
    long context_weight_ = -1, raw_scale_ = -1;

    AlignedBuffer x_, mask_, visible_, weight_, column_weight_, target_, variance_, filled_;
    AlignedBuffer column_noise_buffer_, attribute_noise_buffer_, latent_noise_buffer_;
    AlignedBuffer mean_, log_variance_, mean_gradient_, log_variance_gradient_;
    AlignedBuffer z_, z_gradient_, context_, context_gradient_, hidden_gradient_;
    AlignedBuffer log_weight_, factor_;
    AlignedBuffer log_scale_totals_;  // of each part of the rows
    int n_parts_ = 1;                 // of the rows whose log-weights were taken last
    std::vector<double> bound_, kl_;
    long scratch_floats_;
    AlignedBuffer scratch_;                   // of each part of the rows
    std::unique_ptr<MomentSampler> sampler_;  // made in phase 2
    Proposals own_, expected_own_;            // of the pass that is scored, and of phase 2's first one
    Proposals expert_, expert_gradient_;      // [n, 2, latent_stride]
    std::vector<const float*> expert_rows_;
    long decoder_begin_ = 0;          // first parameter of the data decoder; the scales are the last ones
    AlignedBuffer decoder_total_{0};  // of the subsets' gradients
    AlignedBuffer expected_together_{0};
    AlignedBuffer log_scale_, precision_, numerical_, attribute_, column_sum_;

    long add_linear(int n_in, int n_out, LayerParameters* layer);
    void add_norm(int n_out, LayerParameters* layer);
    void add_collective();
    void add_decoder(Mlp& mlp, int n_in, const std::vector<int>& hidden, int n_out, bool linear_tail);

    void gather(const Rows& rows);
    void hide(Draws& draws, int n);
    void expand_weight(int n);
    void update_scale();
    void fill(const float* visible, int n);
    Proposals make_proposals() const;
    Matrix propose(int attribute, const float* visible, int n, bool training);
    void encode_attribute(int attribute, const float* visible, int n, bool training, Proposals& own);
    void encode_together(const float* visible, Draws& draws, int n, bool training);
    Draws skip_fill(const Draws& draws) const;
    void draw_latent_noise(const Draws& draws, int n_samples, int n);
    void encode(const float* visible, Draws& draws, int n_samples, int n, bool training);
    void select_proposals(const float* visible, int first, int last, Matrix together, const Proposals& own);
    void draw_latents(int n_samples, int n, int first, int last);
    bool has_context() const { return shape_.skip || shape_.mask_context; }
    Matrix context_source();
    int n_context() const { return shape_.skip ? collective_->n_out() : n_attributes_; }
    int n_encoders() const { return static_cast<int>(attributive_.size()); }
    Matrix project_context(int n);
    void decode(int n_samples, int n, bool training);
    void bound_rows(int n_samples, int n, double derivative, const float* variance, const float* target);
    const double* kl(int n, bool with_gradient, float factor);
    void backward(int n_samples, int n, const OptimiserSettings& settings);
    void backward_decoders(int n_samples, int n);
    void backward_encoders_and_update(int n_samples, int n, const OptimiserSettings& settings);
    void backward_latents(int n_samples, int n);
    void backward_attribute(int attribute, int n);
    void propose_each(int n, bool training);
    Experts experts(int first, int last);
    const float* const* expert_rows();
    void combine(Draws& draws, int n);
    void choose_subset(int subset, int n, Draws& uniform);
    void add_decoder_gradient(bool first_subset);
    double step_of_subsets(int n, const OptimiserSettings& settings);
    void backward_expert(int attribute, int n);
    void backward_probabilities(int n_samples, int n);
    void backward_collective(int n_samples, int n);
    void backward_context(int n_samples, int n);
    void encode_twice(Draws& first, int n_samples, int n, const std::function<void()>& between);
    void sample_unobserved_and_forward(int n_samples, int n);
    void forward(int n_samples, int n);

    // Runs work(part, first, last) over parts of n rows with n_samples each: those of the decoders, so that what a
    // thread has decoded stays with it.
    template <class Work>
    void parts_of_rows(int n_samples, int n, const Work& work) {
        const int samples = n_samples * n;
        work_.parts(n, SharedWork::n_parts(samples), data_decoder_->goes_in_parts(samples), work);
    }

    AdamStep adam_rule(const OptimiserSettings& settings);
    void update_decoders(const AdamStep& rule);
    void update_collective(const AdamStep& rule);
};

}  // namespace vsae
