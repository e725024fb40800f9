// Construction, inputs and the way forward.
#include "cpu/network.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/importance_impute.h"

namespace vsae {

// The order of parameters is that of vsae_fast/native_training.py.
long Network::add_linear(int n_in, int n_out, LayerParameters* layer) {
    layer->weight = store.add(n_in, n_out, true);
    layer->bias = store.add(1, n_out, false);
    return layer->weight;
}

void Network::add_norm(int n_out, LayerParameters* layer) {
    layer->gamma = store.add(1, n_out, false);
    layer->beta = store.add(1, n_out, false);
    layer->running_mean = store.add(1, n_out, false, false);
    layer->running_var = store.add(1, n_out, false, false);
}

void Network::add_decoder(Mlp& mlp, int n_in, const std::vector<int>& hidden, int n_out, bool linear_tail) {
    int width = n_in;
    for (std::size_t i = 0; i <= hidden.size(); ++i) {
        const bool last = i == hidden.size();
        const int out = last ? n_out : hidden[i];
        LayerParameters layer;
        add_linear(width, out, &layer);
        if (i == 0) add_norm(out, &layer);
        mlp.add({width, out, i == 0, !last && i > 0 && !linear_tail}, layer);
        width = out;
    }
}

void Network::add_collective() {
    collective_ = std::make_unique<Mlp>(work_, store, shape_.negative_slope, max_rows_);
    int width = n_inputs_;
    for (const int out : shape_.collective_hidden) {
        LayerParameters layer;
        add_linear(width, out, &layer);
        add_norm(out, &layer);
        collective_->add({width, out, true, false}, layer);
        width = out;
    }
    head_ = std::make_unique<Mlp>(work_, store, shape_.negative_slope, max_rows_);
    LayerParameters head;
    add_linear(width, 2 * n_latent_, &head);
    head_->add({width, 2 * n_latent_, false, false}, head);
}

Network::Network(const NetworkShape& shape, const ObjectiveSettings& objective, int max_rows, std::uint64_t seed,
                 CpuLevel level)
    : work_(training_kernels_for(level)),
      shape_(shape),
      objective_(objective),
      n_columns_(shape.attribute_start.back()),
      n_attributes_(static_cast<int>(shape.attribute_kind.size())),
      n_latent_(n_attributes_ * shape.latent_per_attribute),
      n_inputs_(n_columns_ + (shape.sees_mask ? n_attributes_ : 0)),
      column_stride_(row_stride(n_columns_)),
      attribute_stride_(row_stride(n_attributes_)),
      latent_stride_(row_stride(n_latent_)),
      z_stride_(row_stride(whole_lines(n_latent_) + whole_lines(n_attributes_))),
      column_noise_(whole_lines(n_columns_)),
      attribute_noise_(whole_lines(n_attributes_)),
      latent_noise_(whole_lines(n_latent_)),
      max_rows_(max_rows),
      max_samples_(std::max(objective.n_samples, 1)),
      draws_{seed, 0},
      x_(AlignedBuffer::zeros(static_cast<long>(max_rows) * column_stride_)),
      mask_(AlignedBuffer::zeros(static_cast<long>(max_rows) * attribute_stride_)),
      visible_(AlignedBuffer::zeros(static_cast<long>(max_rows) * attribute_stride_)),
      weight_(AlignedBuffer::zeros(static_cast<long>(max_rows) * attribute_stride_)),
      column_weight_(AlignedBuffer::zeros(static_cast<long>(max_rows) * column_stride_)),
      target_(AlignedBuffer::zeros(static_cast<long>(max_rows) * column_stride_)),
      variance_(AlignedBuffer::zeros(static_cast<long>(max_rows) * column_stride_)),
      filled_(AlignedBuffer::zeros(static_cast<long>(max_rows) * row_stride(n_inputs_))),
      column_noise_buffer_(AlignedBuffer::zeros(static_cast<long>(max_rows) * column_noise_)),
      attribute_noise_buffer_(AlignedBuffer::zeros(static_cast<long>(max_rows) * (attribute_noise_ + kLine))),
      latent_noise_buffer_(AlignedBuffer::zeros(static_cast<long>(max_rows) * max_samples_ * latent_noise_)),
      mean_(AlignedBuffer::zeros(static_cast<long>(max_rows) * latent_stride_)),
      log_variance_(AlignedBuffer::zeros(static_cast<long>(max_rows) * latent_stride_)),
      mean_gradient_(AlignedBuffer::zeros(static_cast<long>(max_rows) * latent_stride_)),
      log_variance_gradient_(AlignedBuffer::zeros(static_cast<long>(max_rows) * latent_stride_)),
      z_(AlignedBuffer::zeros(static_cast<long>(max_rows) * max_samples_ * z_stride_)),
      z_gradient_(AlignedBuffer::zeros(static_cast<long>(max_rows) * max_samples_ * z_stride_)),
      context_(AlignedBuffer::zeros(static_cast<long>(max_rows) * row_stride(shape.data_hidden[0]))),
      context_gradient_(AlignedBuffer::zeros(static_cast<long>(max_rows) * row_stride(shape.data_hidden[0]))),
      hidden_gradient_(
          AlignedBuffer::zeros(static_cast<long>(shape.data_hidden[0]) * row_stride(shape.collective_hidden.back()))),
      log_weight_(AlignedBuffer::zeros(static_cast<long>(max_rows) * max_samples_)),
      factor_(AlignedBuffer::zeros(static_cast<long>(max_rows) * max_samples_)),
      log_scale_totals_(AlignedBuffer::zeros(static_cast<long>(SharedWork::kMaxParts) * column_stride_)),
      bound_(static_cast<std::size_t>(max_rows)),
      kl_(static_cast<std::size_t>(max_rows)),
      scratch_floats_(log_weights_scratch(n_columns_, n_attributes_) +
                      static_cast<long>(max_samples_) * column_stride_),
      scratch_(AlignedBuffer::zeros(SharedWork::kMaxParts * scratch_floats_)),
      log_scale_(AlignedBuffer::zeros(column_stride_)),
      precision_(AlignedBuffer::zeros(column_stride_)),
      numerical_(AlignedBuffer::zeros(column_stride_)),
      attribute_(AlignedBuffer::zeros(attribute_stride_)),
      column_sum_(AlignedBuffer::zeros(column_stride_)) {
    const float slope = shape.negative_slope;
    const int latent = shape.experts ? n_latent_ : shape.latent_per_attribute;  // that an attribute's encoder proposes
    std::vector<std::vector<std::pair<LayerShape, LayerParameters>>> own(n_attributes_);
    for (const AttributeGroup& group : shape.groups) {
        std::vector<int> sizes = {group.width};
        const std::vector<int>& hidden = group.kind == kNumerical ? shape.numerical_hidden : shape.categorical_hidden;
        sizes.insert(sizes.end(), hidden.begin(), hidden.end());
        sizes.push_back(2 * latent);
        for (std::size_t i = 0; i + 1 < sizes.size(); ++i) {
            const bool norm = i + 2 < sizes.size();
            std::vector<LayerParameters> layer(group.attributes.size());
            for (LayerParameters& p : layer) p.weight = store.add(sizes[i], sizes[i + 1], false);
            for (LayerParameters& p : layer) p.bias = store.add(1, sizes[i + 1], false);
            if (norm) {
                for (LayerParameters& p : layer) p.gamma = store.add(1, sizes[i + 1], false);
                for (LayerParameters& p : layer) p.beta = store.add(1, sizes[i + 1], false);
                for (LayerParameters& p : layer) p.running_mean = store.add(1, sizes[i + 1], false, false);
                for (LayerParameters& p : layer) p.running_var = store.add(1, sizes[i + 1], false, false);
            }
            for (std::size_t g = 0; g < layer.size(); ++g)
                own[static_cast<std::size_t>(group.attributes[g])].push_back(
                    {{sizes[i], sizes[i + 1], norm, false}, layer[g]});
        }
    }
    for (const auto& layers : own) {
        if (layers.empty()) continue;
        attributive_.emplace_back(work_, store, slope, max_rows);
        for (const auto& [layer, parameters] : layers) attributive_.back().add(layer, parameters);
        own_input_.push_back(AlignedBuffer::zeros(static_cast<long>(max_rows) * row_stride(layers[0].first.n_in)));
    }

    if (shape.experts) {
        for (Proposals* rows : {&expert_, &expert_gradient_})
            for (int a = 0; a < n_attributes_; ++a)
                rows->push_back(AlignedBuffer::zeros(2L * max_rows * latent_stride_));
    } else {
        own_ = make_proposals();
        add_collective();
    }

    const int decoded = max_rows * max_samples_;
    if (shape.selective) {
        mask_decoder_ = std::make_unique<Mlp>(work_, store, slope, decoded);
        add_decoder(*mask_decoder_, n_latent_, shape.mask_hidden, n_attributes_, false);
    }
    decoder_begin_ = store.size();
    data_decoder_ = std::make_unique<Mlp>(work_, store, slope, decoded);
    add_decoder(*data_decoder_, n_latent_ + (shape.selective ? n_attributes_ : 0), shape.data_hidden, n_columns_,
                shape.linear_tail);
    if (has_context()) context_weight_ = store.add(n_context(), shape.data_hidden[0], true);
    raw_scale_ = store.add(1, n_attributes_, false);
    store.allocate();
    if (shape.experts) decoder_total_ = AlignedBuffer::zeros(2 * (store.size() - decoder_begin_));

    for (int a = 0; a < n_attributes_; ++a) {
        attribute_.data()[a] = 1.0f;
        if (shape.attribute_kind[a] == kNumerical)
            for (int c = shape.attribute_start[a]; c < shape.attribute_start[a + 1]; ++c) numerical_.data()[c] = 1.0f;
    }
}

void Network::gather(const Rows& rows) {
    if (rows.n > max_rows_) throw std::invalid_argument("more rows than the trainer was made for");
    for (int r = 0; r < rows.n; ++r) {
        const long from = rows.index ? rows.index[r] : r;
        std::copy_n(rows.x + from * n_columns_, n_columns_, x_.data() + static_cast<long>(r) * column_stride_);
        std::copy_n(rows.mask + from * n_attributes_, n_attributes_,
                    mask_.data() + static_cast<long>(r) * attribute_stride_);
    }
}

// Draws which observed cells stay visible and sets the weight of every cell's likelihood.
void Network::hide(Draws& draws, int n) {
    float* share = attribute_noise_buffer_.data();
    float* uniform = share + static_cast<long>(n) * kLine;
    work_.kernels.fill_uniform(draws.seed, draws.next++, share, static_cast<long>(n) * kLine);
    work_.kernels.fill_uniform(draws.seed, draws.next++, uniform, static_cast<long>(n) * attribute_noise_);
    const float low = objective_.hidden_low, range = objective_.hidden_high - objective_.hidden_low;
    for (long r = 0; r < n; ++r)
        for (int a = 0; a < n_attributes_; ++a) {
            const float observed = mask_.data()[r * attribute_stride_ + a];
            const bool stays = uniform[r * attribute_noise_ + a] >= low + range * share[r * kLine];
            const float visible = stays ? observed : 0.0f;
            visible_.data()[r * attribute_stride_ + a] = visible;
            weight_.data()[r * attribute_stride_ + a] = observed - (1 - objective_.visible_weight) * visible;
        }
}

void Network::expand_weight(int n) {
    for (long r = 0; r < n; ++r)
        for (int a = 0; a < n_attributes_; ++a)
            for (int c = shape_.attribute_start[a]; c < shape_.attribute_start[a + 1]; ++c)
                column_weight_.data()[r * column_stride_ + c] = weight_.data()[r * attribute_stride_ + a];
}

void Network::update_scale() {
    const float* raw = store.value(raw_scale_);
    for (int a = 0; a < n_attributes_; ++a) {
        const float log_scale = std::log(std::exp(raw[a]) + shape_.min_scale);
        for (int c = shape_.attribute_start[a]; c < shape_.attribute_start[a + 1]; ++c) {
            log_scale_.data()[c] = log_scale;
            precision_.data()[c] = numerical_.data()[c] * std::exp(-2 * log_scale);
        }
    }
}

// The collective network's input: what is visible, noise or zeros in the holes, and which is which.
void Network::fill(const float* visible, int n) {
    const int fill_stride = row_stride(n_inputs_);
    for (long r = 0; r < n; ++r) {
        float* filled = filled_.data() + r * fill_stride;
        const float* x = x_.data() + r * column_stride_;
        const float* noise = column_noise_buffer_.data() + r * column_noise_;
        for (int a = 0; a < n_attributes_; ++a) {
            const float seen = visible[r * attribute_stride_ + a];
            for (int c = shape_.attribute_start[a]; c < shape_.attribute_start[a + 1]; ++c)
                filled[c] = seen > 0 ? x[c] : shape_.noise_fill ? noise[c] : 0.0f;
            if (shape_.sees_mask) filled[n_columns_ + a] = seen;
        }
    }
}

// The output of an attribute's own network for the rows where it is visible.
Matrix Network::propose(int attribute, const float* visible, int n, bool training) {
    Mlp& mlp = attributive_[static_cast<std::size_t>(attribute)];
    const int begin = shape_.attribute_start[attribute], width = shape_.attribute_start[attribute + 1] - begin;
    const int in_stride = row_stride(width);
    float* in = own_input_[static_cast<std::size_t>(attribute)].data();
    for (long r = 0; r < n; ++r) std::copy_n(x_.data() + r * column_stride_ + begin, width, in + r * in_stride);
    mlp.forward({in, in_stride}, n, training, visible + attribute, attribute_stride_);
    return mlp.output();
}

// The proposals go to `own` without gaps: the thread that puts all attributes' together has few cache lines to fetch.
void Network::encode_attribute(int attribute, const float* visible, int n, bool training, Proposals& own) {
    const Matrix output = propose(attribute, visible, n, training);
    const int width = attributive_[static_cast<std::size_t>(attribute)].n_out();
    float* to = own[static_cast<std::size_t>(attribute)].data();
    for (long r = 0; r < n; ++r) to = std::copy_n(output.data + r * output.stride, width, to);
}

Network::Proposals Network::make_proposals() const {
    Proposals own;
    for (const Mlp& mlp : attributive_) own.push_back(AlignedBuffer(static_cast<long>(max_rows_) * mlp.n_out()));
    return own;
}

// Takes the next stream of `draws` for the holes, where they are filled with noise.
void Network::encode_together(const float* visible, Draws& draws, int n, bool training) {
    if (shape_.noise_fill)
        work_.kernels.fill_normal(draws.seed, draws.next++, column_noise_buffer_.data(),
                                  static_cast<long>(n) * column_noise_);
    fill(visible, n);
    collective_->forward({filled_.data(), row_stride(n_inputs_)}, n, training);
    head_->forward(collective_->output(), n, training);
}

// What encode_together() leaves of `draws`.
Draws Network::skip_fill(const Draws& draws) const { return {draws.seed, draws.next + (shape_.noise_fill ? 1 : 0)}; }

void Network::draw_latent_noise(const Draws& draws, int n_samples, int n) {
    if (shape_.deterministic) return;
    work_.kernels.fill_normal(draws.seed, draws.next, latent_noise_buffer_.data(),
                              static_cast<long>(n_samples) * n * latent_noise_);
}

// Proposals of n rows, and `n_samples` latents of each. The networks of attributes, the collective one and
// the noise are small tasks of their own: one of their products alone is too short to be shared.
void Network::encode(const float* visible, Draws& draws, int n_samples, int n, bool training) {
    if (shape_.experts) {
        propose_each(n, training);
        return combine(draws, n);
    }
    const Draws of_latents = skip_fill(draws);
    const bool shared_out = collective_->goes_in_parts(n);
    if (shared_out) encode_together(visible, draws, n, training);
    work_.tasks(n_encoders() + 2, [&](int task, int) {
        if (task > 1)
            encode_attribute(task - 2, visible, n, training, own_);
        else if (task == 1)
            draw_latent_noise(of_latents, n_samples, n);
        else if (!shared_out)
            encode_together(visible, draws, n, training);
    });
    draws.next = of_latents.next + 1;
    parts_of_rows(n_samples, n, [&](int, int first, int last) {
        select_proposals(visible, first, last, head_->output(), own_);
        draw_latents(n_samples, n, first, last);
    });
}

// Of each attribute, its own network's proposal where it has one and is visible, else that of all together.
void Network::select_proposals(const float* visible, int first, int last, Matrix together, const Proposals& own) {
    const int latent = shape_.latent_per_attribute;
    for (int a = 0; a < n_attributes_; ++a) {
        const bool has_own = !own.empty();
        const float* alone =
            has_own ? own[static_cast<std::size_t>(a)].data() + 2L * latent * first : together.data;  // not read
        for (long r = first; r < last; ++r, alone += 2 * latent) {
            // Addresses from a table: a branch on a random mask is guessed wrong half of the time.
            const int seen = has_own && visible[r * attribute_stride_ + a] > 0 ? 1 : 0;
            const float* const means[2] = {together.data + r * together.stride + a * latent, alone};
            const int to_log_variance[2] = {n_latent_, latent};
            const float* mean = means[seen];
            const float* log_variance = mean + to_log_variance[seen];
            for (int l = 0; l < latent; ++l) {
                mean_.data()[r * latent_stride_ + a * latent + l] = mean[l];
                log_variance_.data()[r * latent_stride_ + a * latent + l] =
                    std::clamp(log_variance[l], -kLogVarianceLimit, kLogVarianceLimit);
            }
        }
    }
}

void Network::draw_latents(int n_samples, int n, int first, int last) {
    work_.kernels.draw_latents({n_samples, n, first, last, n_latent_, latent_stride_, latent_noise_, z_stride_,
                                mean_.data(), log_variance_.data(),
                                shape_.deterministic ? nullptr : latent_noise_buffer_.data(), z_.data()});
}

Matrix Network::context_source() {
    return shape_.skip ? collective_->output() : Matrix{visible_.data(), attribute_stride_};
}

// What the collective network's last hidden vector, or the mask, adds to the data decoder's first layer.
Matrix Network::project_context(int n) {
    const Matrix context{context_.data(), row_stride(shape_.data_hidden[0])};
    if (!has_context()) return context;
    const Matrix source = context_source();
    work_.product({source.data, source.stride, 1, store.value(context_weight_), context.stride, nullptr, context.data,
                   context.stride, n, whole_lines(shape_.data_hidden[0]), n_context(), false});
    return context;
}

void Network::decode(int n_samples, int n, bool training) {
    const int rows = n_samples * n;
    if (mask_decoder_) {
        mask_decoder_->forward({z_.data(), z_stride_}, rows, training);
        const Matrix logits = mask_decoder_->output();
        parts_of_rows(n_samples, n, [&](int, int first, int last) {
            const long sample = static_cast<long>(first) * n_samples;
            work_.kernels.sigmoid(logits.data + sample * logits.stride, (last - first) * n_samples, n_attributes_,
                                  logits.stride, z_.data() + sample * z_stride_ + n_latent_, z_stride_);
        });
    }
    const Matrix context = project_context(n);
    data_decoder_->forward({z_.data(), z_stride_}, rows, training, nullptr, 0, has_context() ? &context : nullptr,
                           n_samples);
}

// The pass that is scored, up to the decoders' outputs.
void Network::forward(int n_samples, int n) {
    encode(visible_.data(), draws_, n_samples, n, true);
    decode(n_samples, n, true);
}

// Bounds of rows; gradients of the decoders' outputs for a loss whose derivative by each bound is `derivative`.
void Network::bound_rows(int n_samples, int n, double derivative, const float* variance, const float* target) {
    n_parts_ = SharedWork::n_parts(static_cast<long>(n_samples) * n);
    parts_of_rows(n_samples, n, [&](int part, int first, int last) {
        float* scratch = scratch_.data() + part * scratch_floats_;
        float* log_scale_total = log_scale_totals_.data() + static_cast<long>(part) * column_stride_;
        std::fill_n(log_scale_total, column_stride_, 0.0f);
        const RowBounds bounds{bound_.data(), derivative, factor_.data(), log_scale_total};
        work_.kernels.log_weights({n_attributes_,
                                   n_columns_,
                                   n_latent_,
                                   n_samples,
                                   n,
                                   shape_.attribute_start.data(),
                                   shape_.attribute_kind.data(),
                                   log_scale_.data(),
                                   precision_.data(),
                                   numerical_.data(),
                                   attribute_.data(),
                                   target,
                                   variance,
                                   weight_.data(),
                                   column_weight_.data(),
                                   mask_.data(),
                                   data_decoder_->output().data,
                                   mask_decoder_ ? mask_decoder_->output().data : nullptr,
                                   z_.data(),
                                   latent_noise_buffer_.data(),
                                   log_variance_.data(),
                                   column_stride_,
                                   attribute_stride_,
                                   latent_stride_,
                                   latent_noise_,
                                   z_stride_,
                                   objective_.n_samples > 0,
                                   log_weight_.data(),
                                   data_decoder_->output_gradient().data,
                                   scratch + log_weights_scratch(n_columns_, n_attributes_),
                                   mask_decoder_ ? mask_decoder_->output_gradient().data : nullptr,
                                   scratch,
                                   first,
                                   last,
                                   &bounds});
    });
}

// KL(q || N(0, I)) of each row, and `factor` times its derivatives where `with_gradient`.
const double* Network::kl(int n, bool with_gradient, float factor) {
    work_.kernels.kl_divergence({n, n_latent_, latent_stride_, mean_.data(), log_variance_.data(), kl_.data(), factor,
                                 with_gradient ? mean_gradient_.data() : nullptr,
                                 with_gradient ? log_variance_gradient_.data() : nullptr});
    return kl_.data();
}

}  // namespace vsae
