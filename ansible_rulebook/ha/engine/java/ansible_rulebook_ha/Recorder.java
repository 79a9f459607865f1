package ansible_rulebook_ha;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;

import org.drools.ansible.rulebook.integration.api.rulesmodel.PrototypeFactory;
import org.drools.core.common.InternalFactHandle;
import org.drools.core.impl.WorkingMemoryReteExpireAction;
import org.drools.core.phreak.PropagationEntry;
import org.kie.api.event.rule.DefaultRuleRuntimeEventListener;
import org.kie.api.event.rule.ObjectDeletedEvent;
import org.kie.api.event.rule.ObjectInsertedEvent;
import org.kie.api.event.rule.ObjectUpdatedEvent;
import org.kie.api.prototype.PrototypeEventInstance;
import org.kie.api.prototype.PrototypeFactInstance;
import org.kie.api.runtime.KieSession;
import org.kie.api.runtime.rule.FactHandle;

/**
 * Keeps a record of everything in a session's working memory.
 *
 * <p>A record has a number that rises in the order of insertion. It gets a
 * new one when it changes: it moves behind the others, as it does in Drools'
 * own memories. What was inserted, changed or removed since the last
 * {@link #drain} is remembered by that number; of a record that came and went
 * in between nothing is said. Turning a record into text is put off until it
 * is told, since most events leave the working memory within the call that
 * brought them.
 */
final class Recorder extends DefaultRuleRuntimeEventListener {

    /** One object of the working memory. */
    static final class Record {
        long number; // another one when it changes
        final long insertedAt; // milliseconds of the session's clock
        final PrototypeFactInstance object;
        boolean stored;

        Record(long number, long insertedAt, PrototypeFactInstance object) {
            this.number = number;
            this.insertedAt = insertedAt;
            this.object = object;
        }

        /** E(vent), F(act), or C(ontrol): one of the engine's own events. */
        char kind() {
            if (!(object instanceof PrototypeEventInstance)) {
                return 'F';
            }
            String prototype = object.getPrototype().getName();
            boolean own = PrototypeFactory.SYNTHETIC_PROTOTYPE_NAME
                .equals(prototype);
            return own ? 'C' : 'E';
        }
    }

    private final KieSession session;
    private final Map<Long, Record> records = new HashMap<>(); // by handle
    private final Map<Long, Record> changed = new LinkedHashMap<>();
    private long nextNumber;
    private final List<InternalFactHandle> controls = new ArrayList<>();
    private Record restoring;
    private boolean removed;

    Recorder(KieSession session) {
        this.session = session;
    }

    /** What is inserted next is this record, and no change. */
    void restore(Record record) {
        restoring = record;
        nextNumber = Math.max(nextNumber, record.number + 1);
    }

    int size() {
        return records.size();
    }

    /** The record of an object, or null if it is not in memory. */
    Record of(Object object) {
        FactHandle handle = session.getFactHandle(object);
        return handle == null ? null : records.get(idOf(handle));
    }

    /** Removed by the engine without a word to its listeners. */
    void removed(FactHandle handle) {
        Record record = records.remove(idOf(handle));
        if (record != null) {
            forget(record);
        }
    }

    private void forget(Record record) {
        if (record.stored) {
            changed.put(record.number, null);
        } else {
            changed.remove(record.number);
        }
    }

    boolean hasChanges() {
        return !changed.isEmpty();
    }

    /** Since the last {@link #drain}: records, or null for removed ones. */
    Map<Long, Record> changes() {
        return changed;
    }

    /** The changes have been told. */
    void drain() {
        for (Record record : changed.values()) {
            if (record != null) {
                record.stored = true;
            }
        }
        changed.clear();
    }

    /** Whether anything was removed since this was asked last. */
    boolean hasRemoved() {
        boolean found = removed;
        removed = false;
        return found;
    }

    /** What is to be done with each new one of the engine's own events. */
    void forNewControls(Consumer<InternalFactHandle> what) {
        controls.forEach(what);
        controls.clear();
    }

    /** Drools tells nobody else when an event expires. */
    void propagated(PropagationEntry entry) {
        if (entry instanceof WorkingMemoryReteExpireAction expiry) {
            removed(expiry.getFactHandle());
        }
    }

    @Override
    public void objectInserted(ObjectInsertedEvent event) {
        if (!(event.getObject() instanceof PrototypeFactInstance object)) {
            return;
        }
        Record record = restoring;
        restoring = null;
        if (record == null) {
            long now = session.getSessionClock().getCurrentTime();
            record = new Record(nextNumber++, now, object);
            changed.put(record.number, record);
        }
        records.put(idOf(event.getFactHandle()), record);
        if (record.kind() == 'C') {
            controls.add((InternalFactHandle) event.getFactHandle());
        }
    }

    @Override
    public void objectUpdated(ObjectUpdatedEvent event) {
        Record record = records.get(idOf(event.getFactHandle()));
        if (record != null) {
            forget(record);
            record.number = nextNumber++;
            record.stored = false;
            changed.put(record.number, record);
        }
    }

    @Override
    public void objectDeleted(ObjectDeletedEvent event) {
        removed = true;
        removed(event.getFactHandle());
    }

    private static Long idOf(FactHandle handle) {
        return ((InternalFactHandle) handle).getId();
    }
}
