// A product of experts in place of the collective network: an MVAE, which trains on the bounds of subsets of what is
// observed (vsae_fast.baseline_objectives.Subsampled).
#include <algorithm>

#include "cpu/network.h"

namespace vsae {

// What each attribute's expert proposes for all latents of the rows that have it; lines apart, as the kernels load
// them.
void Network::propose_each(int n, bool training) {
    work_.tasks(n_encoders(), [&](int task, int) {
        const Matrix output = propose(task, mask_.data(), n, training);
        float* to = expert_[static_cast<std::size_t>(task)].data();
        for (long r = 0; r < n; ++r, to += 2L * latent_stride_) {
            const float* from = output.data + r * output.stride;
            std::copy_n(from, n_latent_, to);
            std::copy_n(from + n_latent_, n_latent_, to + latent_stride_);
        }
    });
}

Experts Network::experts(int first, int last) {
    return {n_attributes_,  n_latent_,       first,         last,         attribute_stride_,
            latent_stride_, visible_.data(), expert_rows(), mean_.data(), log_variance_.data()};
}

const float* const* Network::expert_rows() {
    expert_rows_.clear();
    for (const AlignedBuffer& rows : expert_) expert_rows_.push_back(rows.data());
    return expert_rows_.data();
}

// Latents of n rows from the experts of their visible attributes; takes the next stream.
void Network::combine(Draws& draws, int n) {
    draw_latent_noise(draws, 1, n);
    ++draws.next;
    const Experts all = experts(0, n);
    parts_of_rows(1, n, [&](int, int first, int last) {
        Experts mine = all;
        mine.first = first;
        mine.last = last;
        work_.kernels.combine_experts(mine);
        draw_latents(1, n, first, last);
    });
}

// The visible attributes of a bound: all observed ones, then each one alone, then random halves.
void Network::choose_subset(int subset, int n, Draws& uniform) {
    float* chance = attribute_noise_buffer_.data();
    const bool random = subset > n_attributes_;
    if (random)
        work_.kernels.fill_uniform(uniform.seed, uniform.next++, chance, static_cast<long>(n) * attribute_noise_);
    for (long r = 0; r < n; ++r)
        for (int a = 0; a < n_attributes_; ++a) {
            const bool in = random ? chance[r * attribute_noise_ + a] < 0.5f : subset == 0 || subset == a + 1;
            const float visible = in ? mask_.data()[r * attribute_stride_ + a] : 0.0f;
            visible_.data()[r * attribute_stride_ + a] = visible;
            weight_.data()[r * attribute_stride_ + a] = visible;
        }
    expand_weight(n);
}

// Decoders' gradients of all subsets together: each way back writes its own into the store.
void Network::add_decoder_gradient(bool first_subset) {
    const long n = store.size() - decoder_begin_;
    float* total = decoder_total_.data();
    float* own = store.gradient(decoder_begin_);
    if (first_subset) {
        std::copy_n(own, n, total);
        return;
    }
    std::copy_n(own, n, total + n);
    work_.kernels.sum_parts(total, n, 2, total, n);
}

double Network::step_of_subsets(int n, const OptimiserSettings& settings) {
    const int n_random = n_attributes_ > 2 ? objective_.n_subsets : 0, n_subsets = 1 + n_attributes_ + n_random;
    Draws uniform = draws_;
    draws_.next += static_cast<std::uint64_t>(n_random);
    propose_each(n, true);
    std::vector<float*> gradients;
    for (AlignedBuffer& gradient : expert_gradient_) {
        std::fill_n(gradient.data(), 2L * n * latent_stride_, 0.0f);
        gradients.push_back(gradient.data());
    }
    double bound = 0;
    for (int subset = 0; subset < n_subsets; ++subset) {
        choose_subset(subset, n, uniform);
        combine(draws_, n);
        decode(1, n, true);
        bound_rows(1, n, -1.0 / n, nullptr, x_.data());
        const double* divergence = kl(n, true, 1.0f / static_cast<float>(n));
        for (std::size_t r = 0; r < static_cast<std::size_t>(n); ++r) bound += bound_[r] - divergence[r];
        backward_decoders(1, n);
        backward_latents(1, n);
        add_decoder_gradient(subset == 0);
        const Experts all = experts(0, n);
        parts_of_rows(1, n, [&](int, int first, int last) {
            Experts mine = all;
            mine.first = first;
            mine.last = last;
            work_.kernels.separate_experts(mine, mean_gradient_.data(), log_variance_gradient_.data(),
                                           gradients.data());
        });
    }
    std::copy_n(decoder_total_.data(), store.size() - decoder_begin_, store.gradient(decoder_begin_));
    backward_encoders_and_update(1, n, settings);
    return -bound / n;
}

void Network::backward_expert(int attribute, int n) {
    Mlp& mlp = attributive_[static_cast<std::size_t>(attribute)];
    const Matrix gradient = mlp.output_gradient();
    const float* from = expert_gradient_[static_cast<std::size_t>(attribute)].data();
    for (long r = 0; r < n; ++r, from += 2L * latent_stride_) {
        float* to = gradient.data + r * gradient.stride;
        std::copy_n(from, n_latent_, to);
        std::copy_n(from + latent_stride_, n_latent_, to + n_latent_);
        std::fill(to + 2 * n_latent_, to + whole_lines(2 * n_latent_), 0.0f);
    }
    mlp.backward({nullptr, 0});
}

}  // namespace vsae
