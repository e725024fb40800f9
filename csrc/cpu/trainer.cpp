#include "cpu/trainer.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "cpu/network.h"

namespace vsae {

namespace {

constexpr int kValidationRows = 256;  // scored at once; VALIDATION_CHUNK in vsae_fast/training.py

}  // namespace

double Network::step(const Rows& rows, bool second_phase, const OptimiserSettings& settings, int n_threads) {
    const int n = rows.n, n_samples = max_samples_;
    const bool importance_weighted = objective_.n_samples > 0;
    work_.set_threads(n_threads);
    gather(rows);
    update_scale();
    const float* target = x_.data();
    const float* variance = nullptr;
    if (importance_weighted) {
        hide(draws_, n);
    } else {
        std::copy_n(mask_.data(), static_cast<long>(n) * attribute_stride_, visible_.data());
        std::copy_n(mask_.data(), static_cast<long>(n) * attribute_stride_, weight_.data());
    }
    if (shape_.experts) return step_of_subsets(n, settings);
    if (second_phase) {
        sample_unobserved_and_forward(n_samples, n);
        target = target_.data();
        variance = variance_.data();
        std::fill_n(weight_.data(), static_cast<long>(n) * attribute_stride_, 1.0f);
    } else {
        forward(n_samples, n);
    }
    expand_weight(n);
    bound_rows(n_samples, n, -1.0 / (importance_weighted ? n * n_attributes_ : n), variance, target);
    double bound = 0;
    for (int r = 0; r < n; ++r) bound += bound_[static_cast<std::size_t>(r)];
    if (importance_weighted) {
        bound /= n_attributes_;
    } else if (!shape_.deterministic) {
        const double* divergence = kl(n, true, 1.0f / static_cast<float>(n));
        for (int r = 0; r < n; ++r) bound -= divergence[r];
    }
    backward(n_samples, n, settings);
    return -bound / n;
}

void Network::score(const Rows& rows, std::uint64_t seed, double* score) {
    Draws draws{seed, 0};
    update_scale();
    const bool importance_weighted = objective_.n_samples > 0;
    const int n_samples = max_samples_;
    for (int begin = 0; begin < rows.n; begin += kValidationRows) {
        const int n = std::min(kValidationRows, rows.n - begin);
        gather({rows.x + static_cast<long>(begin) * n_columns_, rows.mask + static_cast<long>(begin) * n_attributes_,
                nullptr, n});
        for (int i = 0; i < objective_.n_validation_draws; ++i) {
            if (importance_weighted) {
                hide(draws, n);
            } else {
                std::copy_n(mask_.data(), static_cast<long>(n) * attribute_stride_, visible_.data());
                std::copy_n(mask_.data(), static_cast<long>(n) * attribute_stride_, weight_.data());
            }
            expand_weight(n);
            encode(visible_.data(), draws, n_samples, n, false);
            decode(n_samples, n, false);
            bound_rows(n_samples, n, 0, nullptr, x_.data());
            const double* divergence = importance_weighted || shape_.deterministic ? nullptr : kl(n, false, 0);
            for (int r = 0; r < n; ++r)
                score[begin + r] += (bound_[static_cast<std::size_t>(r)] - (divergence ? divergence[r] : 0)) /
                                    objective_.n_validation_draws;
        }
    }
}

Trainer::Trainer(const NetworkShape& shape, const ObjectiveSettings& objective, int max_rows, std::uint64_t seed,
                 CpuLevel level)
    : network_(std::make_unique<Network>(shape, objective, max_rows, seed, level)) {}

Trainer::~Trainer() = default;

void Trainer::import_parameters(const std::vector<const float*>& tensors) {
    if (tensors.size() != network_->store.n_slots()) throw std::invalid_argument("wrong number of parameters");
    for (std::size_t i = 0; i < tensors.size(); ++i) network_->store.import(i, tensors[i]);
}

void Trainer::export_parameters(const std::vector<float*>& tensors) const {
    if (tensors.size() != network_->store.n_slots()) throw std::invalid_argument("wrong number of parameters");
    for (std::size_t i = 0; i < tensors.size(); ++i) network_->store.export_to(i, tensors[i]);
}

long Trainer::state_size() const { return network_->store.state_size(); }

Progress Trainer::export_state(float* state) const {
    network_->store.export_state(state);
    return network_->progress();
}

void Trainer::import_state(const float* state, const Progress& progress) {
    network_->store.import_state(state);
    network_->go_on_from(progress);
}

double Trainer::step(const Rows& rows, bool second_phase, const OptimiserSettings& settings, int n_threads) {
    return network_->step(rows, second_phase, settings, n_threads);
}

void Trainer::score(const Rows& rows, std::uint64_t seed, double* score) { network_->score(rows, seed, score); }

}  // namespace vsae
