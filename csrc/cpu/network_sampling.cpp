// Phase 2: samples of x_u from the current model, in evaluation mode.
#include "cpu/folded_mlp.h"
#include "cpu/network.h"

namespace vsae {

// Writes target (observed values, means of the sampled ones) and variance.
void Network::sample_unobserved(Draws& draws, int n) {
    encode(mask_.data(), draws, n, false);
    const FoldedMlp mask_decoder(work_.kernels, store, *mask_decoder_, shape_.negative_slope);
    const FoldedMlp data_decoder(work_.kernels, store, *data_decoder_, shape_.negative_slope);
    const Matrix context = project_context(n);
    if (shape_.skip)
        for (long r = 0; r < n; ++r)
            for (int c = 0; c < shape_.data_hidden[0]; ++c)
                context.data[r * context.stride + c] *= data_decoder.factors()[static_cast<std::size_t>(c)];
    if (!sampler_)
        sampler_ = std::make_unique<MomentSampler>(Attributes{shape_.attribute_start, shape_.attribute_kind, n_latent_},
                                                   objective_.n_unobserved_samples, max_rows_);
    sampler_->run(work_, mask_decoder, data_decoder,
                  {n, mean_.data(), log_variance_.data(), shape_.skip ? &context : nullptr, log_scale_.data()}, draws,
                  target_.data(), variance_.data());
    for (long r = 0; r < n; ++r)
        for (int a = 0; a < n_attributes_; ++a) {
            if (!(mask_.data()[r * attribute_stride_ + a] > 0)) continue;
            for (int c = shape_.attribute_start[a]; c < shape_.attribute_start[a + 1]; ++c) {
                target_.data()[r * column_stride_ + c] = x_.data()[r * column_stride_ + c];
                variance_.data()[r * column_stride_ + c] = 0.0f;
            }
        }
}

}  // namespace vsae
