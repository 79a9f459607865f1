package ansible_rulebook_ha;

import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

import org.drools.ansible.rulebook.integration.api.RuleConfigurationOption;
import org.drools.ansible.rulebook.integration.api.RuleFormat;
import org.drools.ansible.rulebook.integration.api.RuleNotation;
import org.drools.ansible.rulebook.integration.api.RulesExecutor;
import org.drools.ansible.rulebook.integration.api.RulesExecutorFactory;
import org.drools.ansible.rulebook.integration.api.domain.Rule;
import org.drools.ansible.rulebook.integration.api.domain.RulesSet;
import org.drools.ansible.rulebook.integration.api.domain.conditions.MapCondition;
import org.drools.ansible.rulebook.integration.api.domain.temporal.OnceAbstractTimeConstraint;
import org.drools.ansible.rulebook.integration.api.rulesengine.RulesExecutionController;
import org.drools.ansible.rulebook.integration.api.rulesengine.RulesExecutorSession;
import org.drools.ansible.rulebook.integration.api.rulesengine.SyncRulesEvaluator;
import org.drools.ansible.rulebook.integration.api.rulesmodel.RulesModelUtil;
import org.drools.core.common.InternalFactHandle;
import org.drools.core.common.ReteEvaluator;
import org.drools.core.time.impl.PseudoClockScheduler;
import org.kie.api.prototype.PrototypeEventInstance;
import org.kie.api.prototype.PrototypeFactInstance;
import org.kie.api.runtime.KieSession;
import org.kie.api.runtime.rule.FactHandle;
import org.kie.api.runtime.rule.Match;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A ruleset in the engine whose working memory is recorded.
 *
 * <p>Everything runs on the thread that calls. Time stands still between two
 * calls: the clock that Drools would start for itself is left out, and
 * {@link #advance} moves it.
 */
final class Session extends RulesExecutor {

    private static final Logger LOGGER =
        LoggerFactory.getLogger(Session.class);

    private final Recorder recorder;
    private final RulesSet rules;
    private final PseudoClockScheduler clock;
    private final Matches matches = new Matches();
    private boolean isRestored;
    private boolean isRefused; // and it has been said

    static Session of(String ruleset) {
        RulesSet rules = RuleNotation.CoreNotation.INSTANCE
            .toRulesSet(RuleFormat.JSON, ruleset);
        if (rules.hasTemporalConstraint()) {
            rules.withOptions(RuleConfigurationOption.USE_PSEUDO_CLOCK);
        }
        return new Session(rules, Factory.session(rules));
    }

    private Session(RulesSet rules, RulesExecutorSession session) {
        super(new Evaluator(session));
        this.rules = rules;
        KieSession kie = session.asKieSession();
        recorder = new Recorder(kie);
        clock = kie.getSessionClock();
        tell(fire().join()); // what matches an empty memory
        rules.getRules().forEach(each -> prime(each.getRule()));
        ((Evaluator) rulesEvaluator).recorder = recorder;
        kie.addEventListener(recorder);
        ((ReteEvaluator) kie)
            .setWorkingMemoryActionListener(recorder::propagated);
    }

    /**
     * Has the engine look at a not_all once. Else it would put off something
     * that it does not put off after the first window, and a restored session
     * would bind another of two events that came at once.
     */
    private void prime(Rule rule) {
        if (rule.isEnabled()
                && rule.getCondition() instanceof MapCondition condition
                && condition.getMap().containsKey("NotAllCondition")) {
            Map<String, Object> first =
                Map.of("rulename", rule.getName() + "_");
            FactHandle handle = asKieSession().insert(
                OnceAbstractTimeConstraint.recreateControlEvent(first, null));
            drop();
            asKieSession().delete(handle);
            drop();
        }
    }

    Recorder recorder() {
        return recorder;
    }

    Matches matches() {
        return matches;
    }

    void event(String text) {
        tell(processEvents(text).join());
        settle();
    }

    void fact(String text) {
        tell(processFacts(text).join());
        settle();
    }

    void retract(String text, boolean partial, String[] but) {
        tell(processRetractMatchingFacts(text, partial, but).join());
        settle();
    }

    /**
     * Fires what the removal of matched events has made match. Drools would
     * do so with its clock's next tick; here nothing may be left for later,
     * since it would not be restored.
     */
    private void settle() {
        while (recorder.hasRemoved()) {
            tell(fire().join());
        }
    }

    private void tell(List<Match> found) {
        found.forEach(match -> matches.add(match, time()));
        recorder.forNewControls(Waiting::order);
    }

    long time() {
        return clock.getCurrentTime();
    }

    /**
     * Moves the clock, from timer to timer: what comes of it does not depend
     * on how often this is called.
     *
     * @param now where it shall stand, in milliseconds since 1970
     */
    void advance(long now) {
        if (isRestored) {
            isRestored = false;
            move(0); // what is overdue if the rules expire earlier now
        }
        for (long left = now - time(); left > 0; left = now - time()) {
            long next = clock.getTimeToNextJob();
            if (next < 0 || next > left) {
                clock.advanceTime(left, TimeUnit.MILLISECONDS);
                return;
            }
            move(next);
        }
    }

    private void move(long milliseconds) {
        tell(advanceTime(milliseconds, TimeUnit.MILLISECONDS).join());
        settle();
    }

    /**
     * Puts records back into an empty session, each at its time, and leaves
     * the clock at the time of the last one.
     *
     * <p>Whatever these objects make match has matched before, when they
     * came: the rules see all of it and none fires.
     *
     * @param kept in the order of their numbers
     */
    void restore(Collection<Kept> kept) {
        Map<Long, PrototypeFactInstance> objects = new HashMap<>();
        long last = Long.MIN_VALUE;
        for (Kept each : kept) {
            // One that was changed later stands behind some that are younger.
            clock.setStartupTime(each.insertedAt());
            last = Math.max(last, each.insertedAt());
            PrototypeFactInstance object = object(each, objects);
            Recorder.Record record = new Recorder.Record(
                each.number(), each.insertedAt(), object);
            record.stored = true;
            objects.put(each.number(), object);
            recorder.restore(record);
            asKieSession().insert(object);
            drop();
            recorder.forNewControls(Waiting::order);
        }
        if (!kept.isEmpty()) {
            clock.setStartupTime(last);
        }
        matches.clear();
        isRestored = true;
    }

    private void drop() {
        try {
            asKieSession().fireAllRules(match -> false);
        } catch (RuntimeException error) {
            // As it was when the object came, and the session lived on.
            if (!isRefused) {
                LOGGER.warn("Rules cannot deal with what is restored", error);
            }
            isRefused = true;
        }
    }

    private PrototypeFactInstance object(
            Kept each, Map<Long, PrototypeFactInstance> objects) {
        Map<String, Object> values = Json.map(each.text());
        switch (each.kind()) {
            case 'F':
                return RulesModelUtil.mapToFact(values, false);
            case 'E':
                return withExpiry(RulesModelUtil.mapToFact(values, true));
            default:
                Long expires = each.expires() < 0 ? null : each.expires();
                return OnceAbstractTimeConstraint.recreateControlEvent(
                    Control.restored(values, objects), expires);
        }
    }

    private PrototypeFactInstance withExpiry(PrototypeFactInstance event) {
        ((PrototypeEventInstance) event).withExpiration(
            rules.getEventsTtl().getAmount(),
            rules.getEventsTtl().getTimeUnit());
        return event;
    }

    /** The text of a record, from which it can be put back. */
    Kept kept(Recorder.Record record) {
        char kind = record.kind();
        long expires = -1;
        Map<String, Object> values = record.object.asMap();
        if (kind == 'C') {
            long duration = ((PrototypeEventInstance) record.object)
                .getExpiration();
            expires = duration == Long.MAX_VALUE ? -1 : duration;
            values = Control.stored(values, recorder);
        }
        return new Kept(
            record.number, kind, record.insertedAt, expires,
            Json.text(values));
    }

    /** Has Drools tell of events that match nothing and are let go. */
    private static final class Evaluator extends SyncRulesEvaluator {
        private Recorder recorder;

        Evaluator(RulesExecutorSession session) {
            super(session);
        }

        @Override
        protected void processDiscardedFact(InternalFactHandle handle) {
            recorder.removed(handle);
        }
    }

    /** Only a subclass may make sessions. */
    private static final class Factory extends RulesExecutorFactory {
        static RulesExecutorSession session(RulesSet rules) {
            RulesExecutionController controller =
                new RulesExecutionController();
            return new RulesExecutorSession(
                rules, createKieSession(rules, controller), controller,
                ID_GENERATOR.getAndIncrement());
        }
    }
}
